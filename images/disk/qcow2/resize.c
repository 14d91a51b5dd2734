/* SPDX-License-Identifier: Apache-2.0 */
/* Changes the size of a disk, sets another backing file, and empties an overlay. */
#include "images/disk/qcow2/internal.h"

/* Moves the L1 table to a new place with room for n entries. */
static int grow_l1(struct qcow2 *q, uint32_t n)
{
	uint64_t bytes = (uint64_t)n * 8, host, old = q->h.l1_offset;
	uint64_t old_clusters = qcow2_round_up(q, (uint64_t)q->h.l1_size * 8) >> q->h.cluster_bits;
	uint8_t b[12];

	if (bytes > QCOW2_L1_MAX)
		return disk_err(q->d, EFBIG,
			"the new size: the L1 table would have %u entries, expected at most %u: "
			"use "
			"larger clusters",
			n, QCOW2_L1_MAX / 8);
	uint64_t *bigger = realloc(q->l1, bytes);
	if (!bigger)
		return disk_err(q->d, ENOMEM, "no memory");
	memset(bigger + q->h.l1_size, 0, bytes - (uint64_t)q->h.l1_size * 8);
	q->l1 = bigger;
	int r = qcow2_alloc_table(q, qcow2_round_up(q, bytes) >> q->h.cluster_bits, &host);
	if (r >= 0)
		r = qcow2_flush_all(q);
	_cleanup_free_ uint8_t *buf = malloc(bytes);
	if (r < 0 || !buf)
		return r < 0 ? r : disk_err(q->d, ENOMEM, "no memory");
	for (uint32_t i = 0; i < n; i++)
		put_be64(buf + (size_t)i * 8, q->l1[i]);
	r = io_write(q->d->fd, buf, bytes, host);
	if (r < 0)
		return disk_err(q->d, -r, "write the L1 table: %s", err_text(-r));
	put_be32(b, n);
	put_be64(b + 4, host);
	r = qcow2_header_patch(q, QCOW2_AT_L1, b, sizeof(b));
	if (r < 0)
		return r;
	q->h.l1_size = n;
	q->h.l1_offset = host;
	return old ? qcow2_free_later(q, old, old_clusters) : 0;
}

static int write_size(struct qcow2 *q, uint64_t size)
{
	uint8_t b[8];

	put_be64(b, size);
	int r = qcow2_header_patch(q, QCOW2_AT_SIZE, b, sizeof(b));
	if (r >= 0)
		q->h.size = q->d->size = size;
	return r;
}

static uint32_t l1_entries(const struct qcow2 *q, uint64_t size)
{
	uint64_t per = q->cluster_size << q->l2_bits;

	return (uint32_t)(size / per + (size % per != 0));
}

/*
 * Makes the part that was added to the disk read as zeros. Otherwise the added part would show old
 * bytes in the rest of the last cluster, or bytes of the backing file.
 */
static int clear_new_part(struct qcow2 *q, uint64_t old)
{
	uint64_t end = qcow2_round_up(q, old), size = q->d->size;

	if (q->d->backing && q->d->backing->size > end)
		end = q->d->backing->size;
	if (end > size)
		end = size;
	return old < end ? qcow2_zero(q->d, old, end - old) : 0;
}

static int grow(struct qcow2 *q, uint64_t size)
{
	uint64_t old = q->h.size;
	uint64_t per = q->cluster_size << q->l2_bits;
	int r = 0;

	if (size / per >= QCOW2_L1_MAX / 8)
		return disk_err(q->d, EFBIG,
			"the new size: found %llu, expected at most %llu with clusters of %llu "
			"bytes",
			(unsigned long long)size, (unsigned long long)(QCOW2_L1_MAX / 8 * per),
			(unsigned long long)q->cluster_size);
	pthread_mutex_lock(&q->lock);
	if (l1_entries(q, size) > q->h.l1_size)
		r = grow_l1(q, l1_entries(q, size));
	if (r >= 0)
		r = write_size(q, size);
	pthread_mutex_unlock(&q->lock);
	return r < 0 ? r : clear_new_part(q, old);
}

/* Frees the clusters to which the entries of an L2 table refer, and the table itself. */
static int empty_table(struct qcow2 *q, uint32_t i)
{
	uint64_t per = q->cluster_size << q->l2_bits, at = i * per, left;
	uint64_t table = q->l1[i] & QCOW2_OFFSET;
	uint8_t *entry;

	for (uint64_t n = 0; n < 1ull << q->l2_bits; n += left) {
		int r = qcow2_entry_get(q, at + n * q->cluster_size, &entry, &left);

		for (uint64_t k = 0; r >= 0 && k < left; k++)
			r = qcow2_free_entry(q, be64(entry + k * q->entry_size));
		if (r < 0)
			return r;
	}
	return qcow2_free_later(q, table, 1);
}

/*
 * Clears those entries of the last L2 table still in use that lie behind the disk's new end, and
 * frees the clusters of these entries.
 */
static int drop_entries(struct qcow2 *q, uint64_t from)
{
	uint64_t per = q->cluster_size << q->l2_bits, at = from, left;
	uint8_t *entry;
	int r = 0;

	while (at % per && qcow2_has_table(q, from) && r >= 0) {
		r = qcow2_entry_for_write(q, at, &entry, &left);
		for (; r >= 0 && left > 0; left--, at += q->cluster_size) {
			r = qcow2_free_entry(q, be64(entry));
			memset(entry, 0, q->entry_size);
			qcow2_cache_dirty(&q->l2, entry);
			entry += q->entry_size;
		}
	}
	return r;
}

/* Frees the L2 tables that lie behind the disk's new end. */
static int drop_tables(struct qcow2 *q, uint64_t size)
{
	int r = 0;

	for (uint32_t i = l1_entries(q, size); i < q->h.l1_size && r >= 0; i++) {
		if (!(q->l1[i] & QCOW2_OFFSET))
			continue;
		r = empty_table(q, i);
		q->l1[i] = 0;
		if (q->l1_dirty_from >= q->l1_dirty_to)
			q->l1_dirty_from = i;
		q->l1_dirty_to = i + 1;
	}
	return r;
}

static int shrink(struct qcow2 *q, uint64_t size)
{
	int r = 0;

	if (q->h.snapshots)
		return disk_err(q->d, EOPNOTSUPP,
			"has internal snapshots, and cannot be made smaller: delete them first");
	pthread_mutex_lock(&q->lock);
	r = drop_entries(q, qcow2_round_up(q, size));
	if (r >= 0)
		r = qcow2_flush_tables(q);
	if (r >= 0)
		r = drop_tables(q, size);
	if (r >= 0)
		r = qcow2_flush_tables(q);
	if (r >= 0)
		r = write_size(q, size);
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* Declares all bitmaps invalid, because they have the length of the old disk size. */
static int drop_bitmaps(struct qcow2 *q)
{
	uint8_t b[8];

	if (!(q->h.autoclear & QCOW2_BITMAPS))
		return 0;
	q->h.autoclear &= ~QCOW2_BITMAPS;
	put_be64(b, q->h.autoclear);
	return qcow2_header_patch(q, QCOW2_AT_AUTOCLEAR, b, sizeof(b));
}

int qcow2_resize(struct disk *d, uint64_t size)
{
	struct qcow2 *q = qcow2_of(d);

	if (size % 512)
		return disk_err(d, EINVAL, "the new size: found %llu, expected a multiple of 512",
			(unsigned long long)size);
	if (q->h.version == 2 && q->h.snapshots)
		return disk_err(d, EOPNOTSUPP,
			"has internal snapshots, whose size a version 2 image does not keep: "
			"delete them "
			"first");
	if (q->has_data_file && ftruncate(q->data_fd, (off_t)size) < 0)
		return err_sys("%s: set the data file's size", d->name);
	int r = qcow2_before_change(q, 0, 0);
	if (r >= 0)
		r = drop_bitmaps(q);
	if (r < 0 || size == d->size)
		return r;
	r = size > d->size ? grow(q, size) : shrink(q, size);
	if (r < 0)
		return r;
	pthread_mutex_lock(&q->lock);
	r = qcow2_flush_all(q);
	pthread_mutex_unlock(&q->lock);
	return r;
}

static int replace(struct disk *d, char **field, const char *value)
{
	char *copy = value ? strdup(value) : NULL;

	if (value && !copy)
		return disk_err(d, ENOMEM, "no memory");
	free(*field);
	*field = copy;
	return 0;
}

int qcow2_set_backing(struct disk *d, const char *name, const char *format)
{
	struct qcow2 *q = qcow2_of(d);

	if (name && strlen(name) > QCOW2_NAME_MAX)
		return disk_err(d, ENAMETOOLONG, "backing file: a name has at most %d bytes",
			QCOW2_NAME_MAX);
	if (name && q->h.autoclear & QCOW2_RAW_DATA)
		return disk_err(
			d, EINVAL, "its data file is raw, so it cannot have a backing file");
	int r = replace(d, &q->h.backing, name);
	if (r >= 0)
		r = replace(d, &q->h.backing_format, name ? format : NULL);
	if (r < 0)
		return r;
	pthread_mutex_lock(&q->lock);
	r = qcow2_flush_all(q);
	if (r >= 0)
		r = qcow2_header_write(q);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int qcow2_make_empty(struct disk *d)
{
	struct qcow2 *q = qcow2_of(d);
	int r = qcow2_before_change(q, 0, 0);

	if (r >= 0)
		r = qcow2_bitmaps_touch(q, 0, d->size);
	if (r < 0)
		return r;
	if (q->h.snapshots)
		return disk_err(d, EOPNOTSUPP,
			"has internal snapshots, and is not emptied: keep it, or delete them "
			"first");
	pthread_mutex_lock(&q->lock);
	r = qcow2_flush_all(q);
	for (uint32_t i = 0; i < q->h.l1_size && r >= 0; i++) {
		if (!(q->l1[i] & QCOW2_OFFSET))
			continue;
		r = empty_table(q, i);
		q->l1[i] = 0;
	}
	if (r >= 0) {
		q->l1_dirty_from = 0;
		q->l1_dirty_to = q->h.l1_size;
		r = qcow2_flush_tables(q);
	}
	if (r >= 0)
		r = qcow2_flush_all(q);
	pthread_mutex_unlock(&q->lock);
	return r;
}
