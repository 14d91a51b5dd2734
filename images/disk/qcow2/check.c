/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks an image: counts how many references the tables have to each cluster, and compares these
 * numbers with the refcounts. A refcount that is too high is a leak, one that is too low is an
 * error. After that the COPIED flags are checked. If refcount blocks are missing or damaged, a
 * repair writes all refcount blocks anew, at the end of the file.
 */
#include <stdarg.h>

#include "images/disk/qcow2/check.h"

/* how many bytes of memory the counts may take; enough for an image of about 64 TiB */
#define MEMORY_MAX (4ull << 30)

void qcow2_check_report(struct qcow2_checker *k, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (!k->c->report)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	k->c->report(k->c->data, text);
}

#define report qcow2_check_report

static uint32_t *counts_of(struct qcow2_checker *k, uint64_t block)
{
	uint64_t bytes = sizeof(uint32_t) << k->q->block_bits;

	if (k->counts[block] || k->memory + bytes > MEMORY_MAX)
		return k->counts[block];
	k->memory += bytes;
	k->counts[block] = calloc(1, bytes);
	return k->counts[block];
}

/*
 * Adds one reference to each cluster of a range of the file; `what` is the name of the range's
 * owner, for messages.
 */
int qcow2_check_count(struct qcow2_checker *k, uint64_t host, uint64_t length, const char *what)
{
	struct qcow2 *q = k->q;
	uint64_t mask = (1ull << q->block_bits) - 1;

	if (length == 0)
		return 0;
	for (uint64_t c = host >> q->h.cluster_bits; c <= (host + length - 1) >> q->h.cluster_bits;
		c++) {
		if (c >> q->block_bits >= k->blocks) {
			k->c->errors++;
			k->out_of_bounds = true;
			report(k, "%s at offset %llu: lies behind all that has refcounts", what,
				(unsigned long long)host);
			return 0;
		}
		uint32_t *counts = counts_of(k, c >> q->block_bits);
		if (!counts)
			return disk_err(q->d, ENOMEM, "no memory to count its clusters");
		counts[c & mask] += counts[c & mask] < UINT32_MAX;
		if (c + 1 > k->end)
			k->end = c + 1;
	}
	return 0;
}

static void bad_entry(struct qcow2_checker *k, const char *what, uint64_t guest, uint64_t entry)
{
	k->c->errors++;
	report(k, "L2 entry 0x%016llx of offset %llu: %s", (unsigned long long)entry,
		(unsigned long long)guest, what);
}

static void count_use(struct qcow2_checker *k, uint64_t host, bool packed)
{
	if (!k->active)
		return;
	k->c->used++;
	k->c->compressed += packed;
	if (k->next_host && host != k->next_host)
		k->c->fragmented++;
	k->next_host = packed ? 0 : host + k->q->cluster_size;
}

static int count_entry(struct qcow2_checker *k, uint64_t guest, const uint8_t *p)
{
	struct qcow2 *q = k->q;
	uint64_t entry = be64(p), host = entry & QCOW2_OFFSET, length;

	if (entry & QCOW2_PACKED) {
		qcow2_packed_place(q, entry, &host, &length);
		if (entry & QCOW2_COPIED)
			bad_entry(k, "compressed, and marked as copied", guest, entry);
		if (q->has_data_file)
			bad_entry(k, "compressed, in an image with a data file", guest, entry);
		count_use(k, host, true);
		return qcow2_check_count(k, host, length, "compressed data");
	}
	if (q->subclusters > 1 && be64(p + 8) & be64(p + 8) >> 32 & 0xffffffff)
		bad_entry(k, "a subcluster is both data and zeros", guest, entry);
	if (!host && !(q->has_data_file && entry & QCOW2_COPIED))
		return 0;
	if (host & (q->cluster_size - 1)) {
		bad_entry(k, "its offset does not begin at a cluster", guest, entry);
		return 0;
	}
	if (q->subclusters > 1 || q->h.version < 3 || !(entry & QCOW2_ZERO))
		count_use(k, host, false);
	if (q->has_data_file) {
		if (host != guest)
			bad_entry(k, "its offset in the data file is not the disk's", guest, entry);
		return 0;
	}
	return qcow2_check_count(k, host, q->cluster_size, "data");
}

/*
 * Reads a slice of a table into buf. If the slice cannot be read, reports the error and returns 1.
 */
static int get_slice(struct qcow2_checker *k, uint64_t table, uint64_t at, uint8_t *buf)
{
	struct qcow2 *q = k->q;
	uint8_t *slice;

	int r = qcow2_cache_get(q, &q->l2, table + at, &slice);
	if (r < 0) {
		k->c->errors++;
		report(k, "%s", err_msg());
		err_clear();
		return 1;
	}
	memcpy(buf, slice, q->l2.slice);
	return 0;
}

static int count_table(struct qcow2_checker *k, uint64_t table, uint64_t guest)
{
	struct qcow2 *q = k->q;
	uint8_t buf[QCOW2_SLICE];
	int r = 0;

	for (uint64_t at = 0; at < q->cluster_size && r == 0; at += q->l2.slice) {
		r = get_slice(k, table, at, buf);
		for (size_t i = 0; i < q->l2.slice && r == 0; i += q->entry_size) {
			r = count_entry(k, guest, buf + i);
			guest += q->cluster_size;
		}
	}
	return r < 0 ? r : 0;
}

static int count_tree(struct qcow2_checker *k, const uint64_t *l1, uint32_t n)
{
	struct qcow2 *q = k->q;

	for (uint32_t i = 0; i < n; i++) {
		uint64_t table = l1[i] & QCOW2_OFFSET;

		if (!table)
			continue;
		if (table & (q->cluster_size - 1)) {
			k->c->errors++;
			report(k, "L1 entry %u, 0x%016llx: its offset does not begin at a cluster",
				i, (unsigned long long)l1[i]);
			continue;
		}
		int r = qcow2_check_count(k, table, q->cluster_size, "L2 table");
		if (r >= 0)
			r = count_table(k, table, (uint64_t)i * q->cluster_size << q->l2_bits);
		if (r < 0)
			return r;
	}
	return 0;
}

static int count_snapshot(struct qcow2_checker *k, const struct qcow2_snapshot *s)
{
	struct qcow2 *q = k->q;
	_cleanup_free_ uint64_t *l1 = malloc((size_t)s->l1_size * 8 + 1);

	if (!l1)
		return disk_err(q->d, ENOMEM, "no memory");
	int r = s->l1_size ? disk_read_meta(q->d, l1, (size_t)s->l1_size * 8, s->l1_offset,
				     "snapshot's L1 table")
			   : 0;
	if (r < 0) {
		k->c->errors++;
		report(k, "%s", err_msg());
		err_clear();
		return 0;
	}
	for (uint32_t i = 0; i < s->l1_size; i++)
		l1[i] = be64(&l1[i]);
	r = qcow2_check_count(k, s->l1_offset, (uint64_t)s->l1_size * 8, "snapshot's L1 table");
	return r < 0 ? r : count_tree(k, l1, s->l1_size);
}

static int count_snapshots(struct qcow2_checker *k)
{
	_cleanup_snapshots_ struct qcow2_snapshots all = {0};
	struct qcow2 *q = k->q;

	if (!q->h.snapshots)
		return 0;
	int r = qcow2_snapshots_read(q->d, &all);
	if (r < 0) {
		k->c->errors++;
		k->unreadable = true;
		report(k, "%s", err_msg());
		err_clear();
		return 0;
	}
	r = qcow2_check_count(
		k, q->h.snapshots_offset, qcow2_snapshots_length(&all, all.n), "snapshot table");
	for (size_t i = 0; i < all.n && r >= 0; i++)
		r = count_snapshot(k, &all.v[i]);
	return r;
}

static int count_bitmap(void *data, struct qcow2 *q, const struct qcow2_bitmap *b)
{
	struct qcow2_checker *k = data;
	_cleanup_free_ uint8_t *table = malloc((size_t)b->table_size * 8 + 1);

	if (!table)
		return disk_err(q->d, ENOMEM, "no memory");
	int r = b->table_size ? disk_read_meta(q->d, table, (size_t)b->table_size * 8,
					b->table_offset, "bitmap table")
			      : 0;
	if (r >= 0)
		r = qcow2_check_count(
			k, b->table_offset, (uint64_t)b->table_size * 8, "bitmap table");
	for (uint32_t i = 0; i < b->table_size && r >= 0; i++) {
		uint64_t host = be64(table + (size_t)i * 8) & QCOW2_OFFSET;

		if (host)
			r = qcow2_check_count(k, host, q->cluster_size, "bitmap");
	}
	return r;
}

static int count_bitmaps(struct qcow2_checker *k)
{
	struct qcow2 *q = k->q;

	/*
	 * Bitmaps that are declared invalid are not counted, so the check reports their clusters as
	 * leaks.
	 */
	if (!q->h.bitmaps || !(q->h.autoclear & QCOW2_BITMAPS))
		return 0;
	int r = qcow2_check_count(k, q->h.bitmaps_offset, q->h.bitmaps_size, "bitmap directory");
	if (r >= 0)
		r = qcow2_bitmaps_each(q, count_bitmap, k);
	if (r == -EINVAL) {
		k->c->errors++;
		k->unreadable = true;
		report(k, "%s", err_msg());
		err_clear();
		return 0;
	}
	return r;
}

/* Counts all references except those to the refcount table and the refcount blocks. */
static int count_all(struct qcow2_checker *k)
{
	struct qcow2 *q = k->q;

	int r = qcow2_check_count(k, 0, q->cluster_size, "header");
	if (r >= 0)
		r = qcow2_check_count(k, q->h.l1_offset, (uint64_t)q->h.l1_size * 8, "L1 table");
	k->active = true;
	if (r >= 0)
		r = count_tree(k, q->l1, q->h.l1_size);
	k->active = false;
	if (r >= 0)
		r = count_snapshots(k);
	if (r >= 0)
		r = count_bitmaps(k);
	if (r >= 0)
		r = qcow2_check_count(k, q->h.crypto_offset, q->h.crypto_length, "LUKS header");
	return r;
}

static int check_all(struct qcow2_checker *k)
{
	struct qcow2 *q = k->q;

	k->counts = calloc(k->blocks, sizeof(*k->counts));
	if (!k->counts)
		return disk_err(q->d, ENOMEM, "no memory");
	k->c->clusters = (q->h.size + q->cluster_size - 1) >> q->h.cluster_bits;
	int r = count_all(k);
	if (r >= 0)
		r = qcow2_check_refcounts(k);
	if (r >= 0)
		r = qcow2_check_flags(k);
	k->c->end = k->end << q->h.cluster_bits;
	return r;
}

/* Clears the dirty and corrupt bits in the header, if the repair has left no error in the image. */
static int clean_marks(struct qcow2 *q, const struct disk_check *c)
{
	uint64_t value = q->h.incompatible & ~QCOW2_DIRTY;
	uint8_t b[8];

	if (c->errors == c->errors_fixed && c->fix_all)
		value &= ~QCOW2_CORRUPT;
	int r = qcow2_flush_all(q);
	if (r < 0 || q->h.version < 3 || value == q->h.incompatible)
		return r;
	if (!c->fix_all && q->h.incompatible & QCOW2_DIRTY)
		return 0;
	put_be64(b, value);
	r = qcow2_header_patch(q, QCOW2_AT_INCOMPATIBLE, b, sizeof(b));
	if (r >= 0)
		q->h.incompatible = value;
	return r;
}

int qcow2_check(struct disk *d, struct disk_check *c)
{
	struct qcow2 *q = qcow2_of(d);
	struct qcow2_checker k = {.q = q, .c = c};

	if (!q->table)
		return disk_err(d, EINVAL, "was opened without its refcounts: open it alone");
	/*
	 * The check covers the file up to the end of what the present refcount table can count. A
	 * table that a repair writes may be able to count more.
	 */
	k.blocks = q->table_n;
	bool lazy = q->lazy;
	q->lazy = false;
	int r = check_all(&k);
	if (r >= 0 && (c->fix_all || c->fix_leaks))
		r = clean_marks(q, c);
	q->lazy = lazy;
	for (uint64_t i = 0; k.counts && i < k.blocks; i++)
		free(k.counts[i]);
	free(k.counts);
	return r;
}
