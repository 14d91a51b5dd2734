/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and changes the refcounts of the file's clusters, which are 1 to 64 bits wide. */
#include "images/disk/qcow2/internal.h"

uint64_t qcow2_ref_max(const struct qcow2 *q)
{
	return q->h.refcount_order == 6 ? UINT64_MAX : (1ull << (1u << q->h.refcount_order)) - 1;
}

static uint64_t qcow2_ref_read_entry(unsigned order, const uint8_t *block, uint64_t i)
{
	unsigned bits = 1u << order;

	switch (order) {
	case 6:
		return be64(block + i * 8);
	case 5:
		return be32(block + i * 4);
	case 4:
		return be16(block + i * 2);
	case 3:
		return block[i];
	default:
		return block[i * bits / 8] >> (i * bits % 8) & ((1u << bits) - 1);
	}
}

void qcow2_ref_write_entry(unsigned order, uint8_t *block, uint64_t i, uint64_t value)
{
	unsigned bits = 1u << order, shift = (unsigned)(i * bits % 8);
	uint8_t *p = block + i * bits / 8;

	switch (order) {
	case 6:
		put_be64(p, value);
		break;
	case 5:
		put_be32(p, (uint32_t)value);
		break;
	case 4:
		put_be16(p, (uint16_t)value);
		break;
	case 3:
		*p = (uint8_t)value;
		break;
	default:
		*p = (uint8_t)((*p & ~(((1u << bits) - 1) << shift)) | value << shift);
	}
}

/*
 * Finds the slice of the refcount block that counts `cluster`, and the cluster's index in the
 * slice. Sets *ret to NULL if there is no such block, which means that the refcounts are 0.
 */
static int find_slice(struct qcow2 *q, uint64_t cluster, uint8_t **ret, uint64_t *ret_i)
{
	uint64_t block = cluster >> q->block_bits;
	uint64_t in_block = cluster & ((1ull << q->block_bits) - 1);
	uint64_t per_slice = q->refs.slice * 8 >> q->h.refcount_order;

	*ret = NULL;
	if (block >= q->table_n || !q->table[block])
		return 0;
	if (q->table[block] & (q->cluster_size - 1))
		return qcow2_damaged(q,
			"refcount block %llu at offset %llu does not begin at a cluster",
			(unsigned long long)block, (unsigned long long)q->table[block]);
	*ret_i = in_block % per_slice;
	return qcow2_cache_get(
		q, &q->refs, q->table[block] + in_block / per_slice * q->refs.slice, ret);
}

int qcow2_ref_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret)
{
	uint8_t *slice;
	uint64_t i;

	int r = find_slice(q, cluster, &slice, &i);
	if (r >= 0)
		*ret = slice ? qcow2_ref_read_entry(q->h.refcount_order, slice, i) : 0;
	return r;
}

int qcow2_ref_set(struct qcow2 *q, uint64_t cluster, uint64_t value)
{
	uint8_t *slice;
	uint64_t i;

	int r = find_slice(q, cluster, &slice, &i);
	if (r < 0)
		return r;
	if (!slice)
		return qcow2_damaged(
			q, "cluster %llu has no refcount block", (unsigned long long)cluster);
	qcow2_ref_write_entry(q->h.refcount_order, slice, i, value);
	qcow2_cache_dirty(&q->refs, slice);
	return 0;
}

int qcow2_ref_add(struct qcow2 *q, uint64_t cluster, int delta)
{
	uint64_t value;

	int r = qcow2_ref_get(q, cluster, &value);
	if (r < 0)
		return r;
	if (delta < 0 && value < (uint64_t)-delta)
		return qcow2_damaged(q, "cluster %llu is used, but its refcount is %llu",
			(unsigned long long)cluster, (unsigned long long)value);
	if (delta > 0 && value > qcow2_ref_max(q) - (uint64_t)delta)
		return disk_err(q->d, E2BIG,
			"cluster %llu: its refcount %llu cannot grow: refcount_bits of the image "
			"are %u",
			(unsigned long long)cluster, (unsigned long long)value,
			1u << q->h.refcount_order);
	return qcow2_ref_set(q, cluster, value + (uint64_t)(int64_t)delta);
}
