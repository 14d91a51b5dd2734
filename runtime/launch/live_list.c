/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/live_list.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"

#define LIST_MAX (1 << 20)

static bool is_kind(const char *kind)
{
	static const char *const kinds[] = {LIVE_MOUNT, LIVE_DISK, LIVE_NET, LIVE_VOLUME};

	for (size_t i = 0; kind && i < ARRAY_SIZE(kinds); i++)
		if (streq(kind, kinds[i]))
			return true;
	return false;
}

static int read_entry(const struct json *e, const char *kind, struct live_entry *ret)
{
	*ret = (struct live_entry){.kind = kind,
		.source = json_get_str(e, "source"),
		.target = json_get_str(e, "target"),
		.share = json_get_str(e, "share")};
	const bool known = streq(kind, LIVE_MOUNT) ? json_get_u64(e, "dev", &ret->dev) >= 0 &&
							     json_get_u64(e, "ino", &ret->ino) >= 0
						   : true;
	if (!ret->source || !ret->target || !known)
		return err_set(EINVAL, CONTAINER_ATTACHED ": the file is damaged");
	return 0;
}

int live_list_read(struct container *c, struct live_list *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct json *j;

	ret->n = 0;
	int r = fd_read_file(c->dir, CONTAINER_ATTACHED, &text, LIST_MAX);
	if (r == -ENOENT) {
		err_clear();
		return 0;
	}
	if (r >= 0)
		r = json_parse(&c->arena, strbuf_str(&text), text.len, CONTAINER_ATTACHED, &j);
	if (r < 0)
		return r;
	const struct json *mounts = json_get(j, "mounts"), *devices = json_get(j, "devices");
	for (const struct json *e = mounts ? mounts->first : NULL;
		e && r >= 0 && ret->n < LIVE_ENTRIES_MAX; e = e->next)
		r = read_entry(e, LIVE_MOUNT, &ret->v[ret->n++]);
	for (const struct json *e = devices ? devices->first : NULL;
		e && r >= 0 && ret->n < LIVE_ENTRIES_MAX; e = e->next) {
		const char *kind = json_get_str(e, "kind");
		r = is_kind(kind) ? read_entry(e, kind, &ret->v[ret->n++])
				  : err_set(EINVAL, CONTAINER_ATTACHED ": the file is damaged");
	}
	return r;
}

static void write_entries(struct json_out *o, const struct live_list *l, bool mounts)
{
	json_out_array(o, mounts ? "mounts" : "devices");
	for (size_t i = 0; i < l->n; i++) {
		const struct live_entry *e = &l->v[i];

		if (streq(e->kind, LIVE_MOUNT) != mounts)
			continue;
		json_out_object(o, NULL);
		json_out_str(o, "kind", e->kind);
		json_out_str(o, "source", e->source);
		json_out_str(o, "target", e->target);
		if (e->share)
			json_out_str(o, "share", e->share);
		if (mounts) {
			json_out_u64(o, "dev", e->dev);
			json_out_u64(o, "ino", e->ino);
		}
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

/* Refuses a path that JSON cannot hold, because the path in the list would be another one. */
static int check_text(const char *text)
{
	const size_t len = strlen(text);
	uint32_t character;

	for (size_t at = 0; at < len;) {
		at += str_utf8(text + at, len - at, &character);
		if (character == STR_NO_UTF8)
			return err_set(EINVAL, "path %.200s: expected UTF-8", text);
	}
	return 0;
}

static int write_list(struct container *c, const struct live_list *l)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;

	if (l->n == 0)
		return unlinkat(c->dir, CONTAINER_ATTACHED, 0) < 0 && errno != ENOENT
			       ? err_sys("remove " CONTAINER_ATTACHED)
			       : 0;
	int r = 0;
	for (size_t i = 0; r >= 0 && i < l->n; i++) {
		r = check_text(l->v[i].source);
		if (r >= 0)
			r = check_text(l->v[i].target);
	}
	if (r >= 0)
		r = json_out_init(&o, false);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	write_entries(&o, l, true);
	write_entries(&o, l, false);
	json_out_end_object(&o);
	r = json_out_text(&o, &text, &len);
	return r < 0 ? r : fd_replace_file(c->dir, CONTAINER_ATTACHED, text, len, 0600);
}

struct live_entry *live_list_find(struct live_list *l, const char *kind, const char *target)
{
	for (size_t i = 0; i < l->n; i++)
		if (streq(l->v[i].kind, kind) && streq(l->v[i].target, target))
			return &l->v[i];
	return NULL;
}

int live_list_find_source(
	struct container *c, const char *kind, const char *source, const char **ret_target)
{
	struct live_list l;

	int r = live_list_read(c, &l);
	for (size_t i = 0; r >= 0 && i < l.n; i++) {
		if (!streq(l.v[i].kind, kind) || !streq(l.v[i].source, source))
			continue;
		*ret_target = l.v[i].target;
		return 0;
	}
	return r < 0 ? r
		     : err_set(ENOENT,
			       "nothing of %s was mounted into container \"%s\" while it ran",
			       source, c->id);
}

int live_list_note(struct container *c, const struct live_entry *e)
{
	struct live_list l;

	int r = live_list_read(c, &l);
	if (r < 0)
		return r;
	const struct live_entry *old = live_list_find(&l, e->kind, e->target);
	if (old && !streq(old->source, e->source))
		return err_set(EEXIST, "%s %s was added already, from %s: remove it first", e->kind,
			e->target, old->source);
	if (old)
		return 0;
	if (l.n == LIVE_ENTRIES_MAX)
		return err_set(ENOSPC, "expected at most %d devices and mounts", LIVE_ENTRIES_MAX);
	l.v[l.n++] = *e;
	r = write_list(c, &l);
	return r < 0 ? r : 1;
}

int live_list_forget(struct container *c, const char *kind, const char *target)
{
	struct live_list l;

	int r = live_list_read(c, &l);
	struct live_entry *e = r < 0 ? NULL : live_list_find(&l, kind, target);
	if (!e)
		return r;
	*e = l.v[--l.n];
	return write_list(c, &l);
}

int live_list_undo(struct container *c, const char *kind, const char *target, int r)
{
	_cleanup_free_ char *why = strdup(err_msg());

	if (live_list_forget(c, kind, target) < 0)
		log_warn("%s", err_msg());
	return err_set(-r, "%s", why ? why : "out of memory");
}

int live_list_split(struct arena *a, const char *text, const char *expected, char *ret[static 3])
{
	ret[0] = arena_strdup(a, text);
	if (!ret[0])
		return -ENOMEM;
	ret[1] = strchr(ret[0], ':');
	if (!ret[1] || ret[1] == ret[0] || ret[1][1] != '/')
		return err_set(EINVAL, "expected %s", expected);
	*ret[1]++ = '\0';
	ret[2] = strchr(ret[1], ':');
	if (ret[2])
		*ret[2]++ = '\0';
	return 0;
}

int live_list_describe(struct container *c)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct live_list l;

	c->attached = NULL;
	int r = live_list_read(c, &l);
	for (size_t i = 0; r >= 0 && i < l.n; i++)
		r = strbuf_addf(&text, "%s%s %s", i ? ", " : "", l.v[i].kind, l.v[i].target);
	if (r < 0 || !text.len)
		return r;
	c->attached = arena_strdup(&c->arena, strbuf_str(&text));
	return c->attached ? 0 : -ENOMEM;
}
