/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes, applies and deletes internal snapshots. A snapshot is a copy of the L1 table. All clusters
 * that the table reaches get one more reference, so that later writes to the disk go to new
 * clusters.
 *
 * Theory of operation. Each of these operations consists of several steps. After each step the
 * image is safe by the order of writes that internal.h describes, but flags and refcounts may not
 * match yet. In a version 3 image the header has the dirty bit during the operation, so that after
 * a crash the program that opens the image next repairs the refcounts.
 */
#include <time.h>

#include "images/disk/qcow2/snapshots.h"

#define NAME_MAX_BYTES 255 /* length of the name of a snapshot that caisson makes */

/*
 * Writes the list of snapshots as a new table, makes the header refer to it, and frees the old
 * table, which has `old_length` bytes.
 */
static int write_snapshots(struct qcow2 *q, const struct qcow2_snapshots *s, uint64_t old_length)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	uint64_t host = 0, old = q->h.snapshots_offset;
	uint8_t b[12];
	int r = 0;

	for (size_t i = 0; i < s->n && r >= 0; i++)
		r = qcow2_snapshot_format(&s->v[i], &out);
	if (r >= 0 && s->n)
		r = qcow2_alloc_table(q, qcow2_round_up(q, out.len) >> q->h.cluster_bits, &host);
	if (r < 0)
		return r;
	r = s->n ? io_write(q->d->fd, out.s, out.len, host) : 0;
	if (r < 0)
		return disk_err(q->d, -r, "write the snapshot table: %s", err_text(-r));
	r = qcow2_flush_all(q);
	put_be32(b, (uint32_t)s->n);
	put_be64(b + 4, host);
	if (r >= 0)
		r = qcow2_header_patch(q, QCOW2_AT_SNAPSHOTS, b, sizeof(b));
	if (r < 0)
		return r;
	q->h.snapshots = (uint32_t)s->n;
	q->h.snapshots_offset = host;
	return old_length ? qcow2_free_later(
				    q, old, qcow2_round_up(q, old_length) >> q->h.cluster_bits)
			  : 0;
}

/*
 * Changes the refcounts of the clusters that an L2 entry refers to: increases them now if `up` is
 * set, or decreases them after the next flush.
 */
static int count_entry(struct qcow2 *q, uint64_t entry, bool up)
{
	uint64_t host = entry & QCOW2_OFFSET, length = 1;

	if (!up)
		return qcow2_free_entry(q, entry);
	if (entry & QCOW2_PACKED)
		qcow2_packed_place(q, entry, &host, &length);
	else if (!host)
		return 0;
	for (uint64_t c = host >> q->h.cluster_bits; c <= (host + length - 1) >> q->h.cluster_bits;
		c++) {
		int r = qcow2_ref_add(q, c, 1);
		if (r < 0)
			return r;
	}
	return 0;
}

static int count_table(struct qcow2 *q, uint64_t table, bool up)
{
	uint8_t *slice, buf[QCOW2_SLICE];

	for (uint64_t at = 0; at < q->cluster_size; at += q->l2.slice) {
		int r = qcow2_cache_get(q, &q->l2, table + at, &slice);
		if (r < 0)
			return r;
		memcpy(buf, slice, q->l2.slice);
		for (size_t i = 0; i < q->l2.slice && r >= 0; i += q->entry_size)
			r = count_entry(q, be64(buf + i), up);
		if (r < 0)
			return r;
	}
	return up ? qcow2_ref_add(q, table >> q->h.cluster_bits, 1) : qcow2_free_later(q, table, 1);
}

static int count_tree(struct qcow2 *q, const uint64_t *l1, uint32_t n, bool up)
{
	for (uint32_t i = 0; i < n; i++) {
		uint64_t table = l1[i] & QCOW2_OFFSET;
		int r = 0;

		if (table & (q->cluster_size - 1))
			return qcow2_damaged(q,
				"L2 table %u at offset %llu does not begin at a cluster", i,
				(unsigned long long)table);
		if (table)
			r = count_table(q, table, up);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Sets the flag COPIED in *entry if the refcount of the cluster that the entry refers to is exactly
 * one, else clears the flag.
 */
static int reflag(struct qcow2 *q, uint64_t *entry, bool *ret_changed)
{
	uint64_t refs, old = *entry, host = old & QCOW2_OFFSET;

	if (!host || old & QCOW2_PACKED)
		return 0;
	int r = qcow2_ref_get(q, host >> q->h.cluster_bits, &refs);
	if (r < 0)
		return r;
	*entry = refs == 1 ? old | QCOW2_COPIED : old & ~QCOW2_COPIED;
	*ret_changed = *ret_changed || *entry != old;
	return 0;
}

static int reflag_table(struct qcow2 *q, uint64_t table)
{
	uint8_t *slice;

	for (uint64_t at = 0; at < q->cluster_size; at += q->l2.slice) {
		bool changed = false;
		int r = qcow2_cache_get(q, &q->l2, table + at, &slice);

		for (size_t i = 0; r >= 0 && i < q->l2.slice; i += q->entry_size) {
			uint64_t entry = be64(slice + i);

			r = reflag(q, &entry, &changed);
			put_be64(slice + i, entry);
		}
		if (r < 0)
			return r;
		if (changed)
			qcow2_cache_dirty(&q->l2, slice);
	}
	return 0;
}

static int reflag_tree(struct qcow2 *q)
{
	bool changed = false;

	for (uint32_t i = 0; i < q->h.l1_size; i++) {
		uint64_t table = q->l1[i] & QCOW2_OFFSET;
		int r = reflag(q, &q->l1[i], &changed);

		if (r >= 0 && table)
			r = reflag_table(q, table);
		if (r >= 0 && table && !(q->l1[i] & QCOW2_COPIED))
			qcow2_set_remove(&q->tables, table);
		else if (r >= 0 && table)
			r = qcow2_set_add(&q->tables, table);
		if (r < 0)
			return r;
	}
	if (changed) {
		q->l1_dirty_from = 0;
		q->l1_dirty_to = q->h.l1_size;
	}
	return qcow2_flush_all(q);
}

static int load_l1(struct qcow2 *q, const struct qcow2_snapshot *s, uint64_t **ret)
{
	uint64_t *v = malloc((size_t)s->l1_size * 8 + 1);

	*ret = v;
	if (!v)
		return disk_err(q->d, ENOMEM, "no memory");
	int r = s->l1_size ? disk_read_meta(q->d, v, (size_t)s->l1_size * 8, s->l1_offset,
				     "snapshot's L1 table")
			   : 0;
	for (uint32_t i = 0; i < s->l1_size && r >= 0; i++)
		v[i] = be64(&v[i]);
	return r;
}

static int write_l1(struct qcow2 *q, const uint64_t *v, uint32_t n, uint64_t *ret_host)
{
	uint64_t clusters = qcow2_round_up(q, (uint64_t)n * 8) >> q->h.cluster_bits;
	_cleanup_free_ uint8_t *buf = malloc((size_t)n * 8 + 1);

	if (!buf)
		return disk_err(q->d, ENOMEM, "no memory");
	int r = qcow2_alloc_table(q, clusters ? clusters : 1, ret_host);
	for (uint32_t i = 0; i < n; i++)
		put_be64(buf + (size_t)i * 8, v[i]);
	if (r >= 0) {
		r = io_write(q->d->fd, buf, (size_t)n * 8, *ret_host);
		if (r < 0)
			r = disk_err(q->d, -r, "write an L1 table: %s", err_text(-r));
	}
	return r;
}

/*
 * Adds a new snapshot to the list. The new snapshot's id is the greatest number among the ids plus
 * one, as in QEMU.
 */
static int new_snapshot(struct disk *d, struct qcow2_snapshots *all, const char *name)
{
	struct qcow2 *q = qcow2_of(d);
	struct qcow2_snapshot *s = &all->v[all->n];
	uint64_t largest = 0, n;
	struct timespec now;
	char id[24];

	for (size_t i = 0; i < all->n; i++)
		if (str_to_u64(all->v[i].id, &n) >= 0 && n > largest && n < UINT32_MAX)
			largest = n;
	snprintf(id, sizeof(id), "%llu", (unsigned long long)largest + 1);
	clock_gettime(CLOCK_REALTIME, &now);
	*s = (struct qcow2_snapshot){.id = strdup(id),
		.name = strdup(name),
		.disk_size = q->h.size,
		.l1_size = q->h.l1_size,
		.seconds = (uint32_t)now.tv_sec,
		.nanoseconds = (uint32_t)now.tv_nsec,
		.id_length = (uint16_t)strlen(id),
		.name_length = (uint16_t)strlen(name),
		.extra_length = QCOW2_SNAPSHOT_EXTRA};
	all->n++;
	return s->id && s->name ? 0 : disk_err(d, ENOMEM, "no memory");
}

static int find(struct disk *d, const struct qcow2_snapshots *all, const char *what, size_t *ret)
{
	for (int by_name = 0; by_name < 2; by_name++)
		for (*ret = 0; *ret < all->n; ++*ret)
			if (streq(by_name ? all->v[*ret].name : all->v[*ret].id, what))
				return 0;
	return disk_err(d, ENOENT, "snapshot \"%s\": found no snapshot of that id or name", what);
}

static int may_change(struct disk *d, const char *what, uint64_t changed)
{
	struct qcow2 *q = qcow2_of(d);

	if (q->has_data_file)
		return disk_err(d, EOPNOTSUPP,
			"%s: an image with an external data file has no internal snapshots", what);
	int r = qcow2_before_change(q, 0, 0);
	return r < 0 ? r : qcow2_bitmaps_touch(q, 0, changed);
}

/*
 * Begins an operation: flushes, and sets the dirty bit in the header, which stays set while flags
 * and refcounts may not match.
 */
static int begin(struct qcow2 *q)
{
	int r = qcow2_flush_all(q);

	if (r >= 0 && q->h.version >= 3) {
		r = qcow2_mark_dirty(q, true);
		q->marked = r >= 0;
	}
	return r;
}

static int end(struct qcow2 *q)
{
	int r = qcow2_flush_all(q);

	/*
	 * The second flush is needed, because the first one wrote the increased refcounts and the
	 * tables, and only after that decreased the other refcounts, which are not on the disk yet.
	 */
	if (r >= 0)
		r = qcow2_flush_all(q);
	if (r >= 0 && !q->lazy && q->marked) {
		r = qcow2_mark_dirty(q, false);
		q->marked = r < 0;
	}
	return r;
}

static int take(struct qcow2 *q, struct qcow2_snapshots *all, const char *name)
{
	uint64_t old_length = qcow2_snapshots_length(all, all->n), host = 0;

	int r = new_snapshot(q->d, all, name);
	if (r >= 0)
		r = begin(q);
	if (r >= 0)
		r = count_tree(q, q->l1, q->h.l1_size, true);
	if (r >= 0)
		r = qcow2_flush_all(q);
	if (r >= 0)
		r = reflag_tree(q);
	if (r >= 0)
		r = write_l1(q, q->l1, q->h.l1_size, &host);
	if (r < 0)
		return r;
	all->v[all->n - 1].l1_offset = host;
	r = write_snapshots(q, all, old_length);
	return r < 0 ? r : end(q);
}

int qcow2_snapshot_create(struct disk *d, const char *name)
{
	_cleanup_snapshots_ struct qcow2_snapshots all = {0};
	struct qcow2 *q = qcow2_of(d);
	char clean[NAME_MAX_BYTES + 1];

	int r = may_change(d, "create a snapshot", 0);
	if (r >= 0)
		r = qcow2_snapshots_read(d, &all);
	if (r < 0)
		return r;
	if (!*name || strlen(name) > NAME_MAX_BYTES)
		return disk_err(d, EINVAL, "snapshot \"%s\": expected a name of 1 to %d bytes",
			name, NAME_MAX_BYTES);
	str_clean(clean, sizeof(clean), name, strlen(name));
	if (!streq(clean, name))
		return disk_err(d, EINVAL,
			"snapshot \"%s\": expected a name in UTF-8 without control characters",
			name);
	if (all.n >= QCOW2_SNAPSHOTS_MAX)
		return disk_err(d, EFBIG, "has %zu snapshots, and no room for more", all.n);
	pthread_mutex_lock(&q->lock);
	r = take(q, &all, name);
	pthread_mutex_unlock(&q->lock);
	return r;
}

/*
 * Replaces the disk's tables by a copy of the snapshot's tables, and decreases the refcounts of the
 * clusters that the old tables referred to.
 */
static int apply(struct qcow2 *q, const struct qcow2_snapshot *s)
{
	_cleanup_free_ uint64_t *l1 = NULL, *old = NULL;
	uint64_t host = 0, old_at = q->h.l1_offset, size = s->disk_size;
	uint32_t old_n = q->h.l1_size;
	uint8_t b[12];

	int r = load_l1(q, s, &l1);
	if (r >= 0)
		r = begin(q);
	if (r >= 0)
		r = count_tree(q, l1, s->l1_size, true);
	if (r >= 0)
		r = write_l1(q, l1, s->l1_size, &host);
	if (r >= 0)
		r = qcow2_flush_all(q);
	put_be32(b, s->l1_size);
	put_be64(b + 4, host);
	if (r >= 0)
		r = qcow2_header_patch(q, QCOW2_AT_L1, b, sizeof(b));
	if (r < 0)
		return r;
	old = q->l1;
	q->l1 = take_ptr(l1);
	q->h.l1_size = s->l1_size;
	q->h.l1_offset = host;
	if (size != q->h.size) {
		put_be64(b, size);
		r = qcow2_header_patch(q, QCOW2_AT_SIZE, b, 8);
		q->h.size = q->d->size = size;
	}
	if (r >= 0)
		r = count_tree(q, old, old_n, false);
	if (r >= 0)
		r = qcow2_free_later(
			q, old_at, qcow2_round_up(q, (uint64_t)old_n * 8) >> q->h.cluster_bits);
	if (r >= 0)
		r = qcow2_flush_all(q);
	if (r >= 0)
		r = reflag_tree(q);
	return r < 0 ? r : end(q);
}

static int check_size(struct disk *d, const struct qcow2_snapshot *s)
{
	struct qcow2 *q = qcow2_of(d);
	uint64_t per = q->cluster_size << q->l2_bits;

	if (s->disk_size / per + (s->disk_size % per != 0) > s->l1_size)
		return disk_err(d, EINVAL,
			"snapshot \"%s\": disk size: found %llu, expected what its L1 table covers",
			s->name, (unsigned long long)s->disk_size);
	return 0;
}

int qcow2_snapshot_apply(struct disk *d, const char *what)
{
	_cleanup_snapshots_ struct qcow2_snapshots all = {0};
	struct qcow2 *q = qcow2_of(d);
	size_t i;

	int r = may_change(d, "apply a snapshot", d->size);
	if (r >= 0)
		r = qcow2_snapshots_read(d, &all);
	if (r >= 0)
		r = find(d, &all, what, &i);
	if (r < 0)
		return r;
	r = check_size(d, &all.v[i]);
	if (r < 0)
		return r;
	pthread_mutex_lock(&q->lock);
	r = apply(q, &all.v[i]);
	pthread_mutex_unlock(&q->lock);
	return r;
}

static int drop(struct qcow2 *q, struct qcow2_snapshots *all, size_t i)
{
	struct qcow2_snapshot s = all->v[i];
	_cleanup_free_ uint64_t *l1 = NULL;
	uint64_t old_length = qcow2_snapshots_length(all, all->n);

	int r = load_l1(q, &s, &l1);
	if (r >= 0)
		r = begin(q);
	if (r < 0)
		return r;
	/*
	 * The deleted snapshot moves behind the end of the list, so that its memory is freed
	 * together with the array.
	 */
	memmove(&all->v[i], &all->v[i + 1], (all->n - i - 1) * sizeof(s));
	all->v[--all->n] = s;
	r = write_snapshots(q, all, old_length);
	all->n++;
	if (r >= 0)
		r = count_tree(q, l1, s.l1_size, false);
	if (r >= 0)
		r = qcow2_free_later(q, s.l1_offset,
			qcow2_round_up(q, (uint64_t)s.l1_size * 8) >> q->h.cluster_bits);
	if (r >= 0)
		r = qcow2_flush_all(q);
	if (r >= 0)
		r = reflag_tree(q);
	return r < 0 ? r : end(q);
}

int qcow2_snapshot_delete(struct disk *d, const char *what)
{
	_cleanup_snapshots_ struct qcow2_snapshots all = {0};
	struct qcow2 *q = qcow2_of(d);
	size_t i;

	int r = may_change(d, "delete a snapshot", 0);
	if (r >= 0)
		r = qcow2_snapshots_read(d, &all);
	if (r >= 0)
		r = find(d, &all, what, &i);
	if (r < 0)
		return r;
	pthread_mutex_lock(&q->lock);
	r = drop(q, &all, i);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int qcow2_use_snapshot(struct disk *d, const char *what)
{
	_cleanup_snapshots_ struct qcow2_snapshots all = {0};
	struct qcow2 *q = qcow2_of(d);
	uint64_t *l1;
	size_t i;

	if (d->format != &format_qcow2 || d->write)
		return disk_err(d, EINVAL,
			"snapshot \"%s\": expected a qcow2 image that is only read", what);
	int r = qcow2_snapshots_read(d, &all);
	if (r >= 0)
		r = find(d, &all, what, &i);
	if (r >= 0)
		r = check_size(d, &all.v[i]);
	if (r < 0)
		return r;
	r = load_l1(q, &all.v[i], &l1);
	if (r < 0) {
		free(l1);
		return r;
	}
	free(q->l1);
	q->l1 = l1;
	q->h.l1_size = all.v[i].l1_size;
	d->size = q->h.size = all.v[i].disk_size;
	return 0;
}
