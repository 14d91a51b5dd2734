/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocates and frees clusters of the image file. The lowest free clusters are allocated first. A
 * cluster is freed only after the tables that no longer refer to it are on stable storage.
 */
#include <linux/falloc.h>

#include "images/disk/qcow2/internal.h"

static void table_changed(struct qcow2 *q, uint32_t i)
{
	if (q->table_dirty_from >= q->table_dirty_to) {
		q->table_dirty_from = i;
		q->table_dirty_to = i + 1;
	}
	if (i < q->table_dirty_from)
		q->table_dirty_from = i;
	if (i >= q->table_dirty_to)
		q->table_dirty_to = i + 1;
}

static int write_zeros(struct qcow2 *q, uint64_t host, uint64_t n)
{
	_cleanup_free_ uint8_t *zeros = calloc(1, q->cluster_size);

	if (!zeros)
		return disk_err(q->d, ENOMEM, "no memory");
	for (uint64_t i = 0; i < n; i++) {
		int r = io_write(q->d->fd, zeros, q->cluster_size, host + (i << q->h.cluster_bits));
		if (r < 0)
			return disk_err(q->d, -r, "write a table at offset %llu: %s",
				(unsigned long long)(host + (i << q->h.cluster_bits)),
				err_text(-r));
	}
	return 0;
}

static void used_up_to(struct qcow2 *q, uint64_t cluster)
{
	uint64_t end = cluster << q->h.cluster_bits;

	if (q->fresh_from < end)
		q->fresh_from = end;
}

/*
 * Makes an empty refcount block in cluster `cluster`, as entry i of the refcount table. The caller
 * still has to set the refcount of this cluster.
 */
static int make_block(struct qcow2 *q, uint32_t i, uint64_t cluster)
{
	uint64_t host = cluster << q->h.cluster_bits;

	int r = write_zeros(q, host, 1);
	if (r >= 0)
		r = qcow2_set_add(&q->tables, host);
	if (r < 0)
		return r;
	qcow2_cache_forget(&q->refs, host, q->cluster_size);
	q->table[i] = host;
	table_changed(q, i);
	used_up_to(q, cluster + 1);
	return 0;
}

/*
 * Returns how many refcount blocks are needed to count `clusters` clusters and the refcount blocks
 * themselves.
 */
static uint64_t blocks_for(const struct qcow2 *q, uint64_t clusters)
{
	uint64_t blocks = 0, before;

	do {
		before = blocks;
		blocks = (clusters + before + (1ull << q->block_bits) - 1) >> q->block_bits;
	} while (blocks != before);
	return blocks;
}

static int write_table(struct qcow2 *q, uint64_t host, const uint64_t *table, uint64_t n)
{
	uint8_t buf[512];

	for (uint64_t at = 0; at < n; at += sizeof(buf) / 8) {
		for (size_t i = 0; i < sizeof(buf) / 8; i++)
			put_be64(buf + i * 8, table[at + i]);
		int r = io_write(q->d->fd, buf, sizeof(buf), host + at * 8);
		if (r < 0)
			return disk_err(q->d, -r, "write the refcount table at offset %llu: %s",
				(unsigned long long)host, err_text(-r));
	}
	return 0;
}

/*
 * Writes the new refcount table, makes the header refer to it, and frees the clusters of the old
 * refcount table.
 */
static int switch_table(struct qcow2 *q, uint64_t host, uint64_t clusters)
{
	uint64_t old = q->h.table_offset, old_clusters = q->h.table_clusters;
	uint8_t b[12];

	int r = qcow2_cache_write(q, &q->refs);
	if (r >= 0)
		r = write_table(q, host, q->table, q->table_n);
	if (r < 0)
		return r;
	put_be64(b, host);
	put_be32(b + 8, (uint32_t)clusters);
	r = qcow2_header_patch(q, QCOW2_AT_TABLE, b, sizeof(b));
	if (r < 0)
		return r;
	q->h.table_offset = host;
	q->h.table_clusters = (uint32_t)clusters;
	q->table_dirty_from = q->table_dirty_to = 0;
	return qcow2_free_later(q, old, old_clusters);
}

/*
 * Moves the refcount table to a larger place. The new table, and the refcount blocks that count its
 * clusters, go to the first clusters that the old table could not count, because these clusters are
 * certainly unused.
 */
static int grow_table(struct qcow2 *q)
{
	uint64_t entries = q->table_n + q->table_n / 2 + 1, per = q->cluster_size / 8;
	uint64_t clusters = (entries + per - 1) / per;
	uint64_t first = (uint64_t)q->table_n << q->block_bits;
	uint64_t blocks = blocks_for(q, clusters), base = q->table_n;

	if (clusters << q->h.cluster_bits > QCOW2_TABLE_MAX)
		return disk_err(q->d, EFBIG,
			"the image is full: its refcount table would exceed 8 MiB: use larger "
			"clusters");
	entries = clusters * per;
	uint64_t *bigger = realloc(q->table, entries * sizeof(*bigger));
	if (!bigger)
		return disk_err(q->d, ENOMEM, "no memory");
	memset(bigger + q->table_n, 0, (entries - q->table_n) * sizeof(*bigger));
	q->table = bigger;
	q->table_n = (uint32_t)entries;
	int r = 0;
	for (uint64_t i = 0; i < blocks && r >= 0; i++)
		r = make_block(q, (uint32_t)(base + i), first + i);
	for (uint64_t i = 0; i < blocks + clusters && r >= 0; i++)
		r = qcow2_ref_set(q, first + i, 1);
	if (r >= 0)
		r = switch_table(q, (first + blocks) << q->h.cluster_bits, clusters);
	if (r >= 0)
		used_up_to(q, first + blocks + clusters);
	return r;
}

/*
 * Makes the refcount block that counts `cluster`, if the block does not exist. Sets *ret_took if
 * the new block was put into `cluster` itself.
 */
static int qcow2_block_for(struct qcow2 *q, uint64_t cluster, bool *ret_took)
{
	uint64_t i = cluster >> q->block_bits;

	*ret_took = false;
	if (i >= q->table_n) {
		int r = grow_table(q);
		if (r < 0)
			return r;
	}
	if (i >= q->table_n)
		return qcow2_damaged(q, "the refcount table did not grow enough");
	if (q->table[i])
		return 0;
	int r = make_block(q, (uint32_t)i, cluster);
	if (r >= 0)
		r = qcow2_ref_set(q, cluster, 1);
	*ret_took = r >= 0;
	return r;
}

static int check_free(struct qcow2 *q, uint64_t cluster)
{
	uint64_t host = cluster << q->h.cluster_bits;

	if (cluster >= 1ull << (56 - q->h.cluster_bits))
		return disk_err(q->d, EFBIG, "the image is full: its file would exceed 64 PiB");
	return qcow2_guard(q, host, q->cluster_size, "a cluster whose refcount is 0");
}

int qcow2_alloc(
	struct qcow2 *q, uint64_t want, uint64_t *ret_host, uint64_t *ret_n, bool *ret_fresh)
{
	uint64_t cluster = q->hint, refs, n = 0;

	for (;; cluster++) {
		bool took;
		int r = qcow2_block_for(q, cluster, &took);

		if (r >= 0 && took)
			continue;
		if (r >= 0)
			r = qcow2_ref_get(q, cluster, &refs);
		if (r < 0)
			return r;
		if (refs == 0)
			break;
	}
	q->hint = cluster;
	/*
	 * The clusters behind the first free one are taken too, as long as they are free and
	 * counted by the same refcount block.
	 */
	do {
		int r = check_free(q, cluster + n);
		if (r >= 0)
			r = qcow2_ref_set(q, cluster + n, 1);
		if (r >= 0 && ++n < want && (cluster + n) & ((1ull << q->block_bits) - 1))
			r = qcow2_ref_get(q, cluster + n, &refs);
		else
			refs = 1;
		if (r < 0)
			return r;
	} while (refs == 0);
	q->hint = cluster + n;
	*ret_host = cluster << q->h.cluster_bits;
	*ret_n = n;
	*ret_fresh = *ret_host >= q->fresh_from;
	used_up_to(q, cluster + n);
	return 0;
}

static bool has_block(const struct qcow2 *q, uint64_t cluster)
{
	uint64_t i = cluster >> q->block_bits;

	return i < q->table_n && q->table[i];
}

/*
 * Returns 1 if the n clusters from `cluster` on are free. Clusters that no refcount block counts
 * are free. Otherwise returns 0 and sets *ret_next to the place where the next search should begin.
 */
static int is_free_run(struct qcow2 *q, uint64_t cluster, uint64_t n, uint64_t *ret_next)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t refs = 0;
		int r = qcow2_ref_get(q, cluster + i, &refs);

		if (r < 0)
			return r;
		if (refs) {
			*ret_next = cluster + i + 1;
			return 0;
		}
	}
	return 1;
}

/*
 * Returns how many refcount blocks that count the clusters from `first` to `end` are still missing.
 */
static uint64_t missing_blocks(const struct qcow2 *q, uint64_t first, uint64_t end)
{
	uint64_t missing = 0;

	for (uint64_t i = first >> q->block_bits; i <= (end - 1) >> q->block_bits; i++)
		missing += !has_block(q, i << q->block_bits);
	return missing;
}

/*
 * Allocates n free clusters in a row, starting at *cluster, and makes the refcount blocks that
 * count these clusters. The blocks go into the first clusters of the row, and *cluster moves behind
 * them. Returns 0 if the row is not free, and the caller then has to search on from *cluster.
 */
static int make_run(struct qcow2 *q, uint64_t *cluster, uint64_t n)
{
	uint64_t first = *cluster, blocks = 0, before;

	do {
		before = blocks;
		blocks = missing_blocks(q, first, first + before + n);
	} while (blocks != before);
	int r = is_free_run(q, first, n + blocks, cluster);
	if (r <= 0)
		return r;
	/*
	 * If the refcount table is too short to count this row of clusters, grow_table() replaces
	 * it by a longer table here. The caller then has to search again, because the longer table
	 * may have taken clusters of the row.
	 */
	if ((first + n + blocks - 1) >> q->block_bits >= q->table_n) {
		r = grow_table(q);
		return r < 0 ? r : 0;
	}
	for (uint64_t i = first >> q->block_bits, at = first; blocks && at < first + blocks; i++) {
		if (has_block(q, i << q->block_bits))
			continue;
		r = make_block(q, (uint32_t)i, at++);
		if (r < 0)
			return r;
	}
	for (uint64_t i = 0; i < blocks + n && r >= 0; i++) {
		/*
		 * check_free() is not called for the clusters of the new refcount blocks, because
		 * the set of protected tables in guard.c has these clusters already, so the check
		 * would fail.
		 */
		r = i < blocks ? 0 : check_free(q, first + i);
		if (r >= 0)
			r = qcow2_ref_set(q, first + i, 1);
	}
	*cluster = first + blocks;
	return r < 0 ? r : 1;
}

int qcow2_alloc_table(struct qcow2 *q, uint64_t n, uint64_t *ret_host)
{
	uint64_t cluster = q->hint;
	int r;

	while ((r = make_run(q, &cluster, n)) == 0)
		;
	if (r < 0)
		return r;
	*ret_host = cluster << q->h.cluster_bits;
	used_up_to(q, cluster + n);
	return write_zeros(q, *ret_host, n);
}

void qcow2_alloc_undo(struct qcow2 *q, uint64_t host, uint64_t n)
{
	uint64_t cluster = host >> q->h.cluster_bits;

	for (uint64_t i = 0; i < n; i++)
		if (qcow2_ref_add(q, cluster + i, -1) < 0)
			return;
	if (cluster < q->hint)
		q->hint = cluster;
}

int qcow2_free_later(struct qcow2 *q, uint64_t host, uint64_t n)
{
	struct qcow2_freed *last = q->freed_n ? &q->freed[q->freed_n - 1] : NULL;
	uint64_t cluster = host >> q->h.cluster_bits;

	if (n == 0)
		return 0;
	if (last && last->cluster + last->count == cluster) {
		last->count += n;
		return 0;
	}
	if (q->freed_n == q->freed_cap) {
		size_t cap = q->freed_cap ? q->freed_cap * 2 : 64;
		struct qcow2_freed *bigger = realloc(q->freed, cap * sizeof(*bigger));

		if (!bigger)
			return disk_err(q->d, ENOMEM, "no memory");
		q->freed = bigger;
		q->freed_cap = cap;
	}
	q->freed[q->freed_n++] = (struct qcow2_freed){cluster, n};
	return 0;
}

int qcow2_free_entry(struct qcow2 *q, uint64_t entry)
{
	uint64_t host = entry & QCOW2_OFFSET, length;

	if (entry & QCOW2_PACKED) {
		qcow2_packed_place(q, entry, &host, &length);
		uint64_t first = host & ~(q->cluster_size - 1);
		uint64_t last = (host + length - 1) & ~(q->cluster_size - 1);
		return qcow2_free_later(q, first, ((last - first) >> q->h.cluster_bits) + 1);
	}
	return host && !q->has_data_file ? qcow2_free_later(q, host, 1) : 0;
}

/*
 * Frees the storage of unused clusters in the host's file system, if that file system supports
 * holes.
 */
static void punch(struct qcow2 *q, uint64_t cluster, uint64_t n)
{
	if (n == 0)
		return;
	if (fallocate(q->d->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		    (off_t)(cluster << q->h.cluster_bits), (off_t)(n << q->h.cluster_bits)) < 0)
		return;
}

static int free_one(struct qcow2 *q, uint64_t cluster, bool *ret_unused)
{
	uint64_t host = cluster << q->h.cluster_bits, refs;

	int r = qcow2_ref_add(q, cluster, -1);
	if (r >= 0)
		r = qcow2_ref_get(q, cluster, &refs);
	*ret_unused = r >= 0 && refs == 0;
	if (!*ret_unused)
		return r;
	if (cluster < q->hint)
		q->hint = cluster;
	if (q->packed_at && (q->packed_at & ~(q->cluster_size - 1)) == host)
		q->packed_at = 0;
	qcow2_set_remove(&q->tables, host);
	qcow2_cache_forget(&q->l2, host, q->cluster_size);
	qcow2_cache_forget(&q->refs, host, q->cluster_size);
	q->generation++;
	return 0;
}

int qcow2_free_apply(struct qcow2 *q)
{
	for (size_t i = 0; i < q->freed_n; i++) {
		struct qcow2_freed f = q->freed[i];
		uint64_t from = 0, n = 0;

		for (uint64_t c = f.cluster; c < f.cluster + f.count; c++) {
			bool unused;
			int r = free_one(q, c, &unused);

			if (r < 0)
				return r;
			if (unused && n == 0)
				from = c;
			if (unused)
				n++;
			if (!unused || c + 1 == f.cluster + f.count) {
				punch(q, from, n);
				n = 0;
			}
		}
	}
	q->freed_n = 0;
	return 0;
}
