/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The second half of a check: compares refcounts and COPIED flags with the counted references, and
 * repairs the refcounts and flags.
 */
#include "images/disk/qcow2/check.h"

#define report qcow2_check_report

static uint32_t counted(const struct qcow2_checker *k, uint64_t cluster)
{
	uint64_t block = cluster >> k->q->block_bits;

	if (block >= k->blocks || !k->counts[block])
		return 0;
	return k->counts[block][cluster & ((1ull << k->q->block_bits) - 1)];
}

static void bad_block(struct qcow2_checker *k, uint32_t i, const char *what)
{
	k->c->errors++;
	k->damaged = true;
	report(k, "refcount block %u at offset %llu: %s", i, (unsigned long long)k->q->table[i],
		what);
}

/* Counts the references to the refcount table and to the refcount blocks. */
static int count_blocks(struct qcow2_checker *k)
{
	struct qcow2 *q = k->q;
	uint64_t size;

	int r = disk_file_size(q->d, &size);
	if (r >= 0)
		r = qcow2_check_count(k, q->h.table_offset,
			(uint64_t)q->h.table_clusters << q->h.cluster_bits, "refcount table");
	for (uint32_t i = 0; i < q->table_n && r >= 0; i++) {
		uint64_t at = q->table[i];

		if (!at)
			continue;
		if (at & (q->cluster_size - 1)) {
			bad_block(k, i, "does not begin at a cluster");
		} else if (at >= size || q->cluster_size > size - at) {
			bad_block(k, i, "lies behind the file's end");
		} else {
			r = qcow2_check_count(k, at, q->cluster_size, "refcount block");
			if (r >= 0 && counted(k, at >> q->h.cluster_bits) > 1)
				bad_block(k, i, "lies on something else");
		}
	}
	return r;
}

static int compare(struct qcow2_checker *k, uint64_t cluster, uint64_t have, uint64_t need)
{
	struct disk_check *c = k->c;
	bool leak = have > need, fix = leak ? c->fix_leaks || c->fix_all : c->fix_all;

	report(k, "%s cluster %llu at offset %llu: refcount %llu, used %llu times%s",
		leak ? "leaked" : "error:", (unsigned long long)cluster,
		(unsigned long long)(cluster << k->q->h.cluster_bits), (unsigned long long)have,
		(unsigned long long)need, fix ? ": repaired" : "");
	if (leak)
		c->leaks++;
	else
		c->errors++;
	if (!fix)
		return 0;
	if (need > qcow2_ref_max(k->q))
		return disk_err(k->q->d, E2BIG,
			"cluster %llu is used %llu times, more than %u bits count",
			(unsigned long long)cluster, (unsigned long long)need,
			1u << k->q->h.refcount_order);
	if (leak)
		c->leaks_fixed++;
	else
		c->errors_fixed++;
	return qcow2_ref_set(k->q, cluster, need);
}

/*
 * Compares the refcounts in refcount block i with the numbers of references that the check has
 * found, and repairs wrong refcounts if the caller asked for that. If the block is missing, every
 * reference to one of the clusters that it would count is an error.
 */
static int compare_block(struct qcow2_checker *k, uint64_t i)
{
	struct qcow2 *q = k->q;
	uint64_t first = i << q->block_bits, n = 1ull << q->block_bits, have;
	bool there = i < q->table_n && q->table[i];

	if (!there && !k->counts[i])
		return 0;
	for (uint64_t c = first; c < first + n; c++) {
		uint64_t need = counted(k, c);
		int r = there ? qcow2_ref_get(q, c, &have) : 0;

		if (!there && need) {
			k->damaged = true;
			k->c->errors++;
			report(k, "error: cluster %llu is used, and has no refcount block",
				(unsigned long long)c);
		}
		if (r >= 0 && there && have != need)
			r = compare(k, c, have, need);
		if (r < 0)
			return r;
	}
	return 0;
}

static uint64_t last_used(const struct qcow2_checker *k)
{
	uint64_t per = 1ull << k->q->block_bits;

	for (uint64_t i = k->blocks; i-- > 0;)
		for (uint64_t c = per; k->counts[i] && c-- > 0;)
			if (k->counts[i][c])
				return (i << k->q->block_bits) + c + 1;
	return 1;
}

/*
 * Computes how many refcount blocks and how many clusters of refcount table are needed to count all
 * clusters up to `first`, the new blocks and the new table.
 */
static void plan_rebuild(
	const struct qcow2 *q, uint64_t first, uint64_t *ret_blocks, uint64_t *ret_clusters)
{
	uint64_t before, per = q->cluster_size / 8, blocks = 0, clusters = 0;

	do {
		before = blocks;
		clusters = (blocks + per - 1) / per;
		blocks = (first + before + clusters + (1ull << q->block_bits) - 1) >> q->block_bits;
	} while (blocks != before || clusters != (blocks + per - 1) / per);
	*ret_blocks = blocks;
	*ret_clusters = clusters;
}

static int write_block(
	struct qcow2_checker *k, uint64_t i, uint64_t first, uint64_t end, uint8_t *buf)
{
	struct qcow2 *q = k->q;
	uint64_t n = 1ull << q->block_bits, base = i << q->block_bits;

	memset(buf, 0, q->cluster_size);
	for (uint64_t c = 0; c < n; c++) {
		uint64_t value = base + c >= first && base + c < end ? 1 : counted(k, base + c);

		if (value > qcow2_ref_max(q))
			return disk_err(q->d, E2BIG, "cluster %llu is used too often for %u bits",
				(unsigned long long)(base + c), 1u << q->h.refcount_order);
		qcow2_ref_write_entry(q->h.refcount_order, buf, c, value);
	}
	int r = io_write(q->d->fd, buf, q->cluster_size, (first + i) << q->h.cluster_bits);
	return r < 0 ? disk_err(q->d, -r, "write a refcount block: %s", err_text(-r)) : 0;
}

static int use_table(struct qcow2 *q, uint64_t host, uint64_t clusters, uint64_t *table)
{
	uint8_t b[12];

	put_be64(b, host);
	put_be32(b + 8, (uint32_t)clusters);
	int r = qcow2_header_patch(q, QCOW2_AT_TABLE, b, sizeof(b));
	if (r < 0) {
		free(table);
		return r;
	}
	free(q->table);
	q->table = table;
	q->table_n = (uint32_t)(clusters * q->cluster_size / 8);
	q->table_dirty_from = q->table_dirty_to = 0;
	q->h.table_offset = host;
	q->h.table_clusters = (uint32_t)clusters;
	q->hint = 0;
	qcow2_set_release(&q->tables);
	return qcow2_guard_build(q);
}

/*
 * Drops cached slices of the old refcount blocks without writing the slices, because a rebuild has
 * replaced these blocks.
 */
static void forget_blocks(struct qcow2 *q)
{
	for (size_t i = 0; i < q->refs.n; i++)
		if (q->refs.slots[i].offset)
			qcow2_cache_forget(&q->refs, q->refs.slots[i].offset, q->refs.slice);
}

/*
 * Writes all refcount blocks and the refcount table anew, behind everything else in the file. The
 * old table and blocks stay in the file, but nothing refers to them.
 */
static int rebuild(struct qcow2_checker *k)
{
	struct qcow2 *q = k->q;
	uint64_t first, size, blocks, clusters, *table;

	int r = disk_file_size(q->d, &size);
	if (r < 0)
		return r;
	first = last_used(k);
	if (first < qcow2_round_up(q, size) >> q->h.cluster_bits)
		first = qcow2_round_up(q, size) >> q->h.cluster_bits;
	plan_rebuild(q, first, &blocks, &clusters);
	if (clusters << q->h.cluster_bits > QCOW2_TABLE_MAX)
		return disk_err(q->d, EFBIG, "too large for a new refcount table");
	_cleanup_free_ uint8_t *buf = malloc(q->cluster_size);
	table = calloc(clusters, q->cluster_size);
	if (!buf || !table) {
		free(table);
		return disk_err(q->d, ENOMEM, "no memory");
	}
	forget_blocks(q);
	for (uint64_t i = 0; i < blocks && r >= 0; i++) {
		table[i] = (first + i) << q->h.cluster_bits;
		r = write_block(k, i, first, first + blocks + clusters, buf);
	}
	for (uint64_t i = 0; i < clusters && r >= 0; i++) {
		for (uint64_t n = 0; n < q->cluster_size / 8; n++)
			put_be64(buf + n * 8, table[i * (q->cluster_size / 8) + n]);
		r = io_write(
			q->d->fd, buf, q->cluster_size, (first + blocks + i) << q->h.cluster_bits);
	}
	if (r < 0) {
		free(table);
		return r;
	}
	k->c->errors_fixed = k->c->errors;
	k->c->leaks_fixed = k->c->leaks;
	report(k, "all refcounts were written anew, at the end of the file");
	return use_table(q, (first + blocks) << q->h.cluster_bits, clusters, table);
}

/*
 * Counts the references once more, leaving out those to the old refcount table and blocks, because
 * a new table and new blocks will replace these.
 */
static int recount_without_blocks(struct qcow2_checker *k)
{
	struct qcow2 *q = k->q;
	uint64_t mask = (1ull << q->block_bits) - 1;

	for (uint64_t i = 0; i < q->h.table_clusters; i++) {
		uint64_t c = (q->h.table_offset >> q->h.cluster_bits) + i;

		if (counted(k, c))
			k->counts[c >> q->block_bits][c & mask]--;
	}
	for (uint32_t i = 0; i < q->table_n; i++) {
		uint64_t c = q->table[i] >> q->h.cluster_bits;

		if (q->table[i] && !(q->table[i] & (q->cluster_size - 1)) && counted(k, c))
			k->counts[c >> q->block_bits][c & mask]--;
	}
	return 0;
}

int qcow2_check_refcounts(struct qcow2_checker *k)
{
	int r = count_blocks(k);

	if (r < 0)
		return r;
	if (!k->damaged)
		for (uint64_t i = 0; i < k->blocks && r >= 0; i++)
			r = compare_block(k, i);
	if (r < 0 || !k->damaged || !k->c->fix_all)
		return r;
	/*
	 * The refcounts are not rebuilt if a table could not be read, because the rebuild would
	 * mark the clusters that the table uses as free.
	 */
	if (k->unreadable || k->out_of_bounds) {
		report(k, "the refcounts are not written anew, because tables could not be read");
		return 0;
	}
	r = recount_without_blocks(k);
	return r < 0 ? r : rebuild(k);
}

/*
 * Checks the COPIED flag of an entry, which must be set if the cluster's refcount is one. Returns 1
 * if the flag was wrong; *entry then has the right flag.
 */
static int check_flag(struct qcow2_checker *k, const char *what, uint64_t where, uint64_t *entry)
{
	struct qcow2 *q = k->q;
	uint64_t host = *entry & QCOW2_OFFSET, refs;
	bool flag = *entry & QCOW2_COPIED;

	if (!host || host & (q->cluster_size - 1))
		return 0;
	int r = qcow2_ref_get(q, host >> q->h.cluster_bits, &refs);
	if (r < 0)
		return r;
	if (flag == (refs == 1))
		return 0;
	k->c->errors++;
	report(k, "error: %s of offset %llu: refcount %llu, and %smarked as copied%s", what,
		(unsigned long long)where, (unsigned long long)refs, flag ? "" : "not ",
		k->c->fix_all ? ": repaired" : "");
	if (!k->c->fix_all)
		return 0;
	k->c->errors_fixed++;
	*entry ^= QCOW2_COPIED;
	return 1;
}

static int check_table_flags(struct qcow2_checker *k, uint64_t table, uint64_t guest)
{
	struct qcow2 *q = k->q;
	uint8_t *slice;

	for (uint64_t at = 0; at < q->cluster_size; at += q->l2.slice) {
		int r = qcow2_cache_get(q, &q->l2, table + at, &slice);

		/*
		 * A slice of an L2 table that cannot be read is ignored here, because check.c has
		 * reported it when it counted the references.
		 */
		if (r < 0) {
			err_clear();
			return 0;
		}
		for (size_t i = 0; i < q->l2.slice; i += q->entry_size, guest += q->cluster_size) {
			uint64_t entry = be64(slice + i);

			if (entry & QCOW2_PACKED)
				continue;
			r = check_flag(k, "data", guest, &entry);
			if (r < 0)
				return r;
			if (r == 0)
				continue;
			put_be64(slice + i, entry);
			qcow2_cache_dirty(&q->l2, slice);
		}
	}
	return 0;
}

int qcow2_check_flags(struct qcow2_checker *k)
{
	struct qcow2 *q = k->q;
	bool changed = false;

	/*
	 * The COPIED flags are not checked if refcount blocks cannot be read, because there is
	 * nothing to compare the flags with.
	 */
	if (k->damaged && !k->c->errors_fixed)
		return 0;
	for (uint32_t i = 0; i < q->h.l1_size; i++) {
		uint64_t table = q->l1[i] & QCOW2_OFFSET;
		uint64_t guest = (uint64_t)i * q->cluster_size << q->l2_bits;
		int r;

		if (!table || table & (q->cluster_size - 1))
			continue;
		r = check_flag(k, "L2 table", guest, &q->l1[i]);
		changed = changed || r > 0;
		if (r >= 0 && !q->has_data_file)
			r = check_table_flags(k, table, guest);
		if (r < 0)
			return r;
	}
	if (changed) {
		q->l1_dirty_from = 0;
		q->l1_dirty_to = q->h.l1_size;
	}
	return 0;
}
