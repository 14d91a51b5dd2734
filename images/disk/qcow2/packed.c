/* SPDX-License-Identifier: Apache-2.0 */
/* Writes compressed clusters, several of which may share a cluster of the file. */
#include "images/disk/qcow2/internal.h"

static int place_packed(struct qcow2 *q, size_t len, uint64_t *ret)
{
	uint64_t n, room = 0, refs = 0, left;
	bool fresh;

	if (q->packed_at)
		room = q->cluster_size - (q->packed_at & (q->cluster_size - 1));
	if (room) {
		int r = qcow2_ref_get(q, q->packed_at >> q->h.cluster_bits, &refs);
		if (r < 0)
			return r;
	}
	/*
	 * The refcount of a cluster counts the compressed clusters in it, so the largest refcount
	 * limits how many compressed clusters fit.
	 */
	if (len <= room && refs < qcow2_ref_max(q)) {
		*ret = q->packed_at;
		q->packed_at = len < room ? q->packed_at + len : 0;
		return qcow2_ref_add(q, *ret >> q->h.cluster_bits, 1);
	}
	int r = qcow2_alloc(q, 1, ret, &n, &fresh);
	if (r < 0)
		return r;
	/*
	 * If the new cluster of the file is right behind the cluster with the last compressed data,
	 * the new data begins in the room that is left at the end of that cluster, and goes on in
	 * the new one.
	 */
	if (room && refs < qcow2_ref_max(q) && *ret == q->packed_at + room) {
		*ret = q->packed_at;
		r = qcow2_ref_add(q, *ret >> q->h.cluster_bits, 1);
	}
	left = *ret + len;
	q->packed_at = left & (q->cluster_size - 1) ? left : 0;
	return r;
}

static int link_packed(struct qcow2 *q, uint64_t offset, uint64_t host, size_t len)
{
	unsigned bits = 62 - (q->h.cluster_bits - 8);
	uint64_t sectors = ((host + len - 1) >> 9) - (host >> 9), left;
	uint8_t *entry;

	if (host + len > 1ull << (bits < 56 ? bits : 56))
		return disk_err(q->d, EFBIG,
			"compressed data at offset %llu of the file: an L2 entry cannot say that: "
			"use "
			"smaller clusters",
			(unsigned long long)host);
	int r = qcow2_entry_for_write(q, offset, &entry, &left);
	if (r >= 0)
		r = qcow2_free_entry(q, be64(entry));
	if (r < 0)
		return r;
	put_be64(entry, QCOW2_PACKED | sectors << bits | host);
	if (q->subclusters > 1)
		put_be64(entry + 8, 0);
	qcow2_cache_dirty(&q->l2, entry);
	q->generation++;
	return 0;
}

int qcow2_write_packed(struct disk *d, uint64_t offset, const void *data, size_t len)
{
	struct qcow2 *q = qcow2_of(d);
	struct qcow2_request req = {
		.start = offset, .end = offset + q->cluster_size, .exclusive = true};
	uint64_t host = 0;

	if (offset & (q->cluster_size - 1) || offset >= d->size || len == 0 ||
		len >= q->cluster_size || q->has_data_file)
		return disk_err(d, EINVAL, "no place for a compressed cluster at offset %llu",
			(unsigned long long)offset);
	if (q->h.crypt)
		return disk_err(d, EOPNOTSUPP,
			"the image is encrypted, and encrypted images have no compressed clusters");
	qcow2_request_begin(q, &req);
	int r = qcow2_before_change(q, offset, q->cluster_size);
	if (r >= 0)
		r = place_packed(q, len, &host);
	pthread_mutex_unlock(&q->lock);
	if (r >= 0) {
		r = io_write(d->fd, data, len, host);
		if (r < 0)
			r = disk_err(d, -r, "write at offset %llu of the file: %s",
				(unsigned long long)host, err_text(-r));
	}
	pthread_mutex_lock(&q->lock);
	/*
	 * The cluster of the file stays allocated even if the write has failed, because other
	 * compressed data may be in it.
	 */
	if (r >= 0)
		r = link_packed(q, offset, host, len);
	qcow2_request_end(q, &req);
	pthread_mutex_unlock(&q->lock);
	return r;
}
