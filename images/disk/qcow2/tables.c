/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the L2 entry for an offset of the disk, to read or to change it, and interprets entries. */
#include "images/disk/qcow2/internal.h"

static uint64_t l1_index(const struct qcow2 *q, uint64_t guest)
{
	return guest >> (q->h.cluster_bits + q->l2_bits);
}

bool qcow2_has_table(const struct qcow2 *q, uint64_t guest)
{
	return (q->l1[l1_index(q, guest)] & QCOW2_OFFSET) != 0;
}

/*
 * Finds the L2 entry for the disk offset `guest` in the cached slice of `table`. Sets *ret_left to
 * the number of entries from there to the end of the slice.
 */
static int entry_in(
	struct qcow2 *q, uint64_t table, uint64_t guest, uint8_t **ret, uint64_t *ret_left)
{
	uint64_t i = guest >> q->h.cluster_bits & ((1ull << q->l2_bits) - 1);
	uint64_t per_slice = q->l2.slice / q->entry_size;
	uint8_t *slice;

	int r = qcow2_cache_get(q, &q->l2, table + i / per_slice * q->l2.slice, &slice);
	if (r < 0)
		return r;
	*ret = slice + i % per_slice * q->entry_size;
	*ret_left = per_slice - i % per_slice;
	return 0;
}

static int check_table(struct qcow2 *q, uint64_t i)
{
	uint64_t entry = q->l1[i], at = entry & QCOW2_OFFSET;

	if (at & (q->cluster_size - 1))
		return qcow2_damaged(q, "L2 table %llu at offset %llu does not begin at a cluster",
			(unsigned long long)i, (unsigned long long)at);
	return 0;
}

int qcow2_entry_get(struct qcow2 *q, uint64_t guest, uint8_t **ret, uint64_t *ret_left)
{
	uint64_t i = l1_index(q, guest);
	int r = check_table(q, i);

	return r < 0 ? r : entry_in(q, q->l1[i] & QCOW2_OFFSET, guest, ret, ret_left);
}

static void l1_set(struct qcow2 *q, uint32_t i, uint64_t value)
{
	q->l1[i] = value;
	if (q->l1_dirty_from >= q->l1_dirty_to) {
		q->l1_dirty_from = i;
		q->l1_dirty_to = i + 1;
	}
	if (i < q->l1_dirty_from)
		q->l1_dirty_from = i;
	if (i >= q->l1_dirty_to)
		q->l1_dirty_to = i + 1;
}

/* Copies an L2 table through the cache, slice by slice. */
static int copy_table(struct qcow2 *q, uint64_t from, uint64_t to)
{
	uint8_t buf[QCOW2_SLICE], *slice;

	for (uint64_t at = 0; at < q->cluster_size; at += q->l2.slice) {
		int r = qcow2_cache_get(q, &q->l2, from + at, &slice);
		if (r < 0)
			return r;
		memcpy(buf, slice, q->l2.slice);
		r = qcow2_cache_get(q, &q->l2, to + at, &slice);
		if (r < 0)
			return r;
		memcpy(slice, buf, q->l2.slice);
		qcow2_cache_dirty(&q->l2, slice);
	}
	return 0;
}

/*
 * Makes L2 table i belong to the disk alone: makes a new table if there is none, and copies a table
 * that a snapshot also uses.
 */
static int own_table(struct qcow2 *q, uint64_t i)
{
	uint64_t old = q->l1[i] & QCOW2_OFFSET, host;

	int r = qcow2_alloc_table(q, 1, &host);
	if (r < 0)
		return r;
	qcow2_cache_forget(&q->l2, host, q->cluster_size);
	r = qcow2_set_add(&q->tables, host);
	if (r >= 0 && old)
		r = copy_table(q, old, host);
	if (r >= 0)
		l1_set(q, (uint32_t)i, host | QCOW2_COPIED);
	return r < 0 || !old ? r : qcow2_free_later(q, old, 1);
}

int qcow2_entry_for_write(struct qcow2 *q, uint64_t guest, uint8_t **ret, uint64_t *ret_left)
{
	uint64_t i = l1_index(q, guest);

	int r = check_table(q, i);
	if (r >= 0 && !(q->l1[i] & QCOW2_COPIED && q->l1[i] & QCOW2_OFFSET))
		r = own_table(q, i);
	return r < 0 ? r : entry_in(q, q->l1[i] & QCOW2_OFFSET, guest, ret, ret_left);
}

void qcow2_packed_place(
	const struct qcow2 *q, uint64_t entry, uint64_t *ret_host, uint64_t *ret_length)
{
	unsigned bits = 62 - (q->h.cluster_bits - 8);
	uint64_t host = entry & ((1ull << bits) - 1);
	uint64_t sectors = entry >> bits & ((1ull << (62 - bits)) - 1);

	*ret_host = host & 0x00ffffffffffffffull;
	*ret_length = (sectors + 1) * 512 - (host & 511);
}

uint64_t qcow2_entry_host(const struct qcow2 *q, uint64_t guest, uint64_t entry, bool *ret_has)
{
	uint64_t host = entry & QCOW2_OFFSET;

	/*
	 * In an external data file, a cluster with data may be at offset 0, so the COPIED flag
	 * tells whether the entry refers to data.
	 */
	*ret_has = host != 0 || (q->has_data_file && (entry & QCOW2_COPIED));
	return host;
}

static int bad_entry(struct qcow2 *q, uint64_t guest, uint64_t entry, const char *why)
{
	/*
	 * An invalid entry is an error only for a reader of its cluster, but in a disk that is open
	 * for writing the whole image counts as damaged.
	 */
	if (q->d->write)
		return qcow2_damaged(q, "L2 entry 0x%016llx of offset %llu: %s",
			(unsigned long long)entry, (unsigned long long)guest, why);
	return disk_err(q->d, EIO, "L2 entry 0x%016llx of offset %llu: %s",
		(unsigned long long)entry, (unsigned long long)guest, why);
}

static int check_entry(struct qcow2 *q, uint64_t guest, uint64_t entry)
{
	uint64_t host = entry & QCOW2_OFFSET;

	if (entry & QCOW2_PACKED)
		return q->has_data_file
			       ? bad_entry(q, guest, entry,
					 "a compressed cluster in an image with a data file")
			       : 0;
	if (host & (q->cluster_size - 1))
		return bad_entry(q, guest, entry, "its offset does not begin at a cluster");
	if (q->has_data_file && (host || entry & QCOW2_COPIED) &&
		host != (guest & ~(q->cluster_size - 1)))
		return bad_entry(
			q, guest, entry, "its offset in the data file is not the disk's offset");
	return 0;
}

int qcow2_entry_kind(struct qcow2 *q, uint64_t guest, const uint8_t *p, unsigned i)
{
	uint64_t entry = be64(p), bitmap;
	bool has;

	int r = check_entry(q, guest, entry);
	if (r < 0)
		return r;
	if (entry & QCOW2_PACKED)
		return QCOW2_K_PACKED;
	qcow2_entry_host(q, guest, entry, &has);
	if (q->subclusters == 1) {
		if (q->h.version >= 3 && entry & QCOW2_ZERO)
			return QCOW2_K_ZERO;
		return has ? QCOW2_K_DATA : QCOW2_K_HOLE;
	}
	bitmap = be64(p + 8);
	bool there = bitmap >> i & 1, zero = bitmap >> (i + 32) & 1;
	if (there && zero)
		return bad_entry(q, guest, entry, "a subcluster is both data and zeros");
	if (there && !has)
		return bad_entry(q, guest, entry, "a subcluster is data, but has no offset");
	return there ? QCOW2_K_DATA : zero ? QCOW2_K_ZERO : QCOW2_K_HOLE;
}
