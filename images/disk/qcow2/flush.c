/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the changed tables in the order that keeps the image consistent after a crash: a table
 * reaches the disk before another table refers to it.
 */
#include "images/disk/qcow2/internal.h"

int qcow2_sync(struct qcow2 *q)
{
	int r = q->has_data_file && q->data_fd >= 0 ? disk_sync(q->d, q->data_fd, "the data file")
						    : 0;

	return r < 0 ? r : disk_sync(q->d, q->d->fd, "");
}

/* Writes the n numbers at v to the file, as a part of a table that is in memory as a whole. */
static int write_entries(
	struct qcow2 *q, const char *what, const uint64_t *v, uint32_t n, uint64_t offset)
{
	_cleanup_free_ uint8_t *buf = malloc((size_t)n * 8);

	if (!buf)
		return disk_err(q->d, ENOMEM, "no memory");
	for (uint32_t i = 0; i < n; i++)
		put_be64(buf + (size_t)i * 8, v[i]);
	int r = io_write(q->d->fd, buf, (size_t)n * 8, offset);
	if (r < 0)
		return disk_err(q->d, -r, "write the %s at offset %llu: %s", what,
			(unsigned long long)offset, err_text(-r));
	return 0;
}

static int flush_table(struct qcow2 *q)
{
	uint32_t from = q->table_dirty_from, to = q->table_dirty_to;

	if (from >= to)
		return 0;
	/*
	 * The file is synced here, because a refcount block must be on stable storage before the
	 * refcount table refers to it.
	 */
	int r = qcow2_sync(q);
	if (r >= 0)
		r = write_entries(q, "refcount table", q->table + from, to - from,
			q->h.table_offset + (uint64_t)from * 8);
	if (r >= 0)
		q->table_dirty_from = q->table_dirty_to = 0;
	return r;
}

/* Writes the refcounts and the refcount table, and syncs the file. */
static int qcow2_flush_refs(struct qcow2 *q)
{
	int r = 0;

	/*
	 * With lazy refcounts the refcounts are written when the image is closed. Until then the
	 * header says that the refcounts may be wrong.
	 */
	if (!q->lazy) {
		r = qcow2_cache_write(q, &q->refs);
		if (r >= 0)
			r = flush_table(q);
	}
	return r < 0 ? r : qcow2_sync(q);
}

static int flush_l1(struct qcow2 *q)
{
	uint32_t from = q->l1_dirty_from, to = q->l1_dirty_to;

	if (from >= to)
		return 0;
	/*
	 * The file is synced here, because an L2 table must be on stable storage before the L1
	 * table refers to it.
	 */
	int r = qcow2_sync(q);
	if (r >= 0)
		r = write_entries(q, "L1 table", q->l1 + from, to - from,
			q->h.l1_offset + (uint64_t)from * 8);
	if (r >= 0)
		q->l1_dirty_from = q->l1_dirty_to = 0;
	return r;
}

int qcow2_flush_tables(struct qcow2 *q)
{
	bool any = q->l2.dirty || q->l1_dirty_from < q->l1_dirty_to;

	if (q->broken)
		return qcow2_refuse_damaged(q);
	int r = qcow2_flush_refs(q);
	if (r >= 0)
		r = qcow2_cache_write(q, &q->l2);
	if (r >= 0)
		r = flush_l1(q);
	if (r >= 0 && any)
		r = qcow2_sync(q);
	return r < 0 || !q->freed_n ? r : qcow2_free_apply(q);
}

int qcow2_flush_all(struct qcow2 *q)
{
	int r = qcow2_flush_tables(q);

	if (r >= 0)
		r = qcow2_cache_write(q, &q->refs);
	return r < 0 ? r : flush_table(q);
}
