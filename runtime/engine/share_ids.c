/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/share_ids.h"

#include <stdlib.h>

#include "base/str.h"
#include "base/userns.h"

struct range {
	uint64_t first, end;
};

static int compare_ranges(const void *a, const void *b)
{
	const struct range *x = a, *y = b;

	return x->first < y->first ? -1 : x->first > y->first;
}

/*
 * Merges the range of ids at index `i` and the next range into one. Returns how many ranges are
 * left.
 */
static size_t join_next(struct range *r, size_t n, size_t i)
{
	if (r[i].end < r[i + 1].end)
		r[i].end = r[i + 1].end;
	memmove(&r[i + 1], &r[i + 2], (n - i - 2) * sizeof(*r));
	return n - 1;
}

/* Returns the index of the range of ids that has the smallest gap to the next range. */
static size_t find_nearest(const struct range *r, size_t n)
{
	size_t best = 0;

	for (size_t i = 1; i + 1 < n; i++)
		if (r[i + 1].first - r[i].end < r[best + 1].first - r[best].end)
			best = i;
	return best;
}

static int write_ranges(const struct range *r, size_t n, struct strbuf *ret)
{
	int e = 0;

	for (size_t i = 0; i < n && e >= 0; i++)
		e = strbuf_addf(ret, "%llu %llu %llu\n", (unsigned long long)r[i].first,
			(unsigned long long)r[i].first,
			(unsigned long long)(r[i].end - r[i].first));
	return e;
}

int share_own_ids(const struct spec_id_maps *maps, struct strbuf *ret)
{
	_cleanup_free_ struct range *r = calloc(maps->n + 1, sizeof(*r));
	size_t n = maps->n;

	if (!r)
		return err_set(ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++)
		r[i] = (struct range){
			maps->v[i].host_id, (uint64_t)maps->v[i].host_id + maps->v[i].size};
	qsort(r, n, sizeof(*r), compare_ranges);
	for (size_t i = 0; i + 1 < n;) {
		/*
		 * Ranges that only touch each other are not merged, because the kernel refuses a
		 * line of an id map that spans two lines of the map of the caller's own user
		 * namespace, as rootless podman's has them.
		 */
		if (r[i + 1].first < r[i].end)
			n = join_next(r, n, i);
		else
			i++;
	}
	for (;;) {
		_cleanup_strbuf_ struct strbuf text = {0};
		int e = write_ranges(r, n, &text);
		if (e < 0)
			return e;
		if (text.len <= SHARE_MAP_MAX || n < 2)
			return strbuf_addf(ret, "%s", strbuf_str(&text));
		n = join_next(r, n, find_nearest(r, n));
	}
}

/*
 * Returns the user id as which the file server acts: root if the maps contain root, because only
 * root has root's rights, else the first id in the maps.
 */
static uint32_t first_id(const struct spec_id_maps *maps)
{
	for (size_t i = 0; i < maps->n; i++)
		if (maps->v[i].host_id == 0)
			return 0;
	return maps->n ? maps->v[0].host_id : 0;
}

/*
 * Confines the file server of an ordinary user's container that has no user namespace in the guest.
 * `s` is the host's step ID_MAP, which maps the user's own id to itself. In the server's user
 * namespace this id is 0, so the files of the user belong to root of the guest, and what root of
 * the guest makes belongs to the user.
 */
static int confine_to_user(const struct step *s, struct vmfs_config *c)
{
	_cleanup_strbuf_ struct strbuf uid = {0}, gid = {0};

	int r = strbuf_addf(&uid, "0 %u 1\n", s->map.uid.v[0].host_id);
	if (r >= 0)
		r = strbuf_addf(&gid, "0 %u 1\n", s->map.gid.v[0].host_id);
	if (r >= 0)
		r = c->userns = userns_open(strbuf_str(&uid), strbuf_str(&gid));
	c->uid = c->gid = 0;
	/* The host's kernel would refuse to make the nodes. */
	c->devices = false;
	return r < 0 ? err_ctx(r, "the file server") : 0;
}

int share_confine(const struct plan *plan, struct vmfs_config *c)
{
	const struct step *own = NULL;
	_cleanup_strbuf_ struct strbuf uids = {0}, gids = {0};

	for (size_t i = 0; i < plan->n; i++) {
		const struct step *s = &plan->steps[i];
		/*
		 * Only the guest's step ID_MAP has the ids of the container. The host's step ID_MAP
		 * maps the ids of an ordinary user's monitor.
		 */
		if (s->kind == STEP_ID_MAP && s->place == PLACE_HOST)
			own = s;
		if (s->kind != STEP_ID_MAP || s->place != PLACE_GUEST)
			continue;
		int r = share_own_ids(&s->map.uid, &uids);
		if (r >= 0)
			r = share_own_ids(&s->map.gid, &gids);
		if (r >= 0)
			r = c->userns = userns_open(strbuf_str(&uids), strbuf_str(&gids));
		c->uid = first_id(&s->map.uid);
		c->gid = first_id(&s->map.gid);
		return r < 0 ? err_ctx(r, "the file server: linux") : 0;
	}
	return own ? confine_to_user(own, c) : 0;
}
