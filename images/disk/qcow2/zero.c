/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zeroes and discards ranges. For whole clusters and subclusters only the L2 entries are changed;
 * zeros are written to the rest.
 */
#include <linux/falloc.h>

#include "images/disk/qcow2/internal.h"

struct job {
	bool discard;
	bool keep; /* clusters stay allocated and are only marked to read as zeros */
};

/* Cuts the range at the end of the disk, because the last cluster may reach beyond it. */
static uint64_t clip(const struct qcow2 *q, uint64_t offset, uint64_t length)
{
	return length < q->d->size - offset ? length : q->d->size - offset;
}

static int write_zeros(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	static const uint8_t zeros[64 * 1024];

	while (length > 0) {
		size_t here = length < sizeof(zeros) ? (size_t)length : sizeof(zeros);
		/*
		 * The cast removes const, because the pointer in struct iovec is not const. That
		 * does no harm, because a write only reads the buffer.
		 */
		struct iovec v = {(void *)(uintptr_t)zeros, here};
		int r = qcow2_write(q->d, &v, 1, offset);

		if (r < 0)
			return r;
		offset += here;
		length -= here;
	}
	return 0;
}

/* Writes zeros to a part of a subcluster, except if the part reads as zeros already. */
static int zero_part(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	while (length > 0) {
		struct disk_extent e;
		unsigned depth;
		int r = disk_map_chain(q->d, offset, length, &e, &depth);

		if (r >= 0 && e.kind != DISK_ZERO && e.kind != DISK_HOLE)
			r = write_zeros(q, offset, e.length);
		if (r < 0)
			return r;
		offset += e.length;
		length -= e.length;
	}
	return 0;
}

static bool no_backing(const struct qcow2 *q, uint64_t cluster)
{
	return !q->h.backing || (q->d->backing && cluster >= q->d->backing->size);
}

/*
 * Marks a whole cluster as zeros in its L2 entry. Returns 1 if the format has no such mark, so that
 * the caller must write zeros.
 */
static int zero_entry(struct qcow2 *q, uint64_t cluster, uint8_t *entry, const struct job *job)
{
	uint64_t old = be64(entry), value = 0;
	bool has, own = old & QCOW2_COPIED && !(old & QCOW2_PACKED);

	int r = qcow2_entry_kind(q, cluster, entry, 0);
	if (r < 0)
		return r;
	if (old == 0 && no_backing(q, cluster))
		return 0;
	uint64_t host = qcow2_entry_host(q, cluster, old, &has);
	if (old & QCOW2_PACKED)
		has = false;
	bool stays = has && own && job->keep;
	if (!stays && no_backing(q, cluster) && q->h.version < 3)
		value = 0;
	else if (q->h.version < 3)
		return 1;
	else
		value = (stays ? host | QCOW2_COPIED : 0) | (q->subclusters == 1 ? QCOW2_ZERO : 0);
	if (!stays)
		r = qcow2_free_entry(q, old);
	if (r < 0)
		return r;
	put_be64(entry, value);
	if (q->subclusters > 1)
		put_be64(entry + 8, 0xffffffffull << 32);
	return 0;
}

/*
 * Marks some subclusters of one cluster as zeros. Returns 1 if the caller must write zeros instead.
 */
static int zero_subclusters(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	uint64_t left, cluster = offset & ~(q->cluster_size - 1);
	unsigned first = (unsigned)((offset - cluster) / q->subcluster_size);
	unsigned n = (unsigned)(length / q->subcluster_size);
	uint64_t mask = ((1ull << n) - 1) << first;
	uint8_t *entry;

	int r = qcow2_entry_for_write(q, offset, &entry, &left);
	if (r < 0)
		return r;
	if (be64(entry) & QCOW2_PACKED)
		return 1;
	uint64_t bitmap = be64(entry + 8);
	put_be64(entry + 8, (bitmap & ~mask) | mask << 32);
	qcow2_cache_dirty(&q->l2, entry);
	return 0;
}

/*
 * Marks the clusters of one L2 slice as zeros, up to the first cluster to which zeros must be
 * written. Sets *ret_done to the number of bytes before that cluster.
 */
static int zero_slice(struct qcow2 *q, uint64_t offset, uint64_t length, const struct job *job,
	uint64_t *ret_done)
{
	uint64_t left, done = 0, per_table = q->cluster_size << q->l2_bits;
	uint8_t *entry;

	*ret_done = 0;
	/*
	 * If there is neither an L2 table for the range nor a backing file, the range reads as
	 * zeros already.
	 */
	if (!qcow2_has_table(q, offset) && no_backing(q, offset)) {
		left = per_table - (offset & (per_table - 1));
		*ret_done = left < length ? left : length;
		return 0;
	}
	int r = qcow2_entry_for_write(q, offset, &entry, &left);
	for (; r == 0 && left > 0 && done < length; left--, entry += q->entry_size) {
		r = zero_entry(q, offset + done, entry, job);
		if (r == 0)
			qcow2_cache_dirty(&q->l2, entry);
		if (r == 0)
			done += q->cluster_size;
	}
	*ret_done = done;
	return r;
}

/*
 * Punches a hole into the external data file. For a raw data file this must succeed, because other
 * programs read a raw data file without the L2 tables.
 */
static int zero_data_file(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	bool raw = q->h.autoclear & QCOW2_RAW_DATA;

	if (!q->has_data_file)
		return 0;
	if (fallocate(q->data_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		    (off_t)length) == 0)
		return 0;
	return raw ? err_sys("%s: zero %llu bytes at offset %llu of the data file", q->d->name,
			     (unsigned long long)length, (unsigned long long)offset)
		   : 0;
}

/*
 * Marks clusters as zeros in the L2 entries, up to the first cluster to which zeros must be
 * written. Sets *ret_done to the number of bytes before that cluster.
 */
static int zero_entries(struct qcow2 *q, uint64_t offset, uint64_t length, const struct job *job,
	uint64_t *ret_done)
{
	struct qcow2_request req = {.start = offset, .end = offset + length, .exclusive = true};
	uint64_t here;
	int r = 0;

	*ret_done = 0;
	qcow2_request_begin(q, &req);
	while (r == 0 && *ret_done < length) {
		r = qcow2_before_change(q, offset + *ret_done, length - *ret_done);
		if (r >= 0)
			r = zero_slice(q, offset + *ret_done, length - *ret_done, job, &here);
		if (r >= 0)
			*ret_done += here;
	}
	qcow2_request_end(q, &req);
	pthread_mutex_unlock(&q->lock);
	return r < 0 ? r : zero_data_file(q, offset, *ret_done);
}

static int zero_clusters(struct qcow2 *q, uint64_t offset, uint64_t length, const struct job *job)
{
	while (length > 0) {
		uint64_t done;
		int r = zero_entries(q, offset, length, job, &done);

		offset += done;
		length -= done;
		/*
		 * A discard ends at the first cluster to which zeros would have to be written. The
		 * clusters from there on cannot be discarded, because format version 2 has no way
		 * to mark zeros above a backing file.
		 */
		if (r < 0 || length == 0 || job->discard)
			return r;
		r = write_zeros(q, offset, clip(q, offset, q->cluster_size));
		if (r < 0)
			return r;
		offset += q->cluster_size;
		length -= q->cluster_size;
	}
	return 0;
}

/*
 * Zeroes a part of a cluster: marks whole subclusters as zeros, if the image has subclusters, and
 * writes zeros to the rest.
 */
static int zero_in_cluster(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	uint64_t unit = q->subcluster_size, end = offset + length;
	uint64_t first = (offset + unit - 1) & ~(unit - 1), last = end & ~(unit - 1);
	struct qcow2_request req = {.start = offset, .end = end, .exclusive = true};

	/*
	 * At the end of the disk the last subcluster counts as whole, because nobody reads behind
	 * the end.
	 */
	if (end == q->d->size)
		last = (end + unit - 1) & ~(unit - 1);
	if (q->subclusters == 1 || first >= last || q->has_data_file)
		return zero_part(q, offset, length);
	qcow2_request_begin(q, &req);
	int r = qcow2_before_change(q, offset, length);
	if (r >= 0)
		r = zero_subclusters(q, first, last - first);
	qcow2_request_end(q, &req);
	pthread_mutex_unlock(&q->lock);
	if (r == 1)
		return zero_part(q, offset, length);
	if (r >= 0 && first > offset)
		r = zero_part(q, offset, first - offset);
	if (r >= 0 && last < end)
		r = zero_part(q, last, end - last);
	return r;
}

int qcow2_zero(struct disk *d, uint64_t offset, uint64_t length)
{
	struct qcow2 *q = qcow2_of(d);
	const struct job job = {.keep = !d->discard_zeroed};
	uint64_t end = offset + length, cluster = q->cluster_size;
	uint64_t first = qcow2_round_up(q, offset), last = end & ~(cluster - 1);
	int r = 0;

	if (end == d->size)
		last = qcow2_round_up(q, end);
	/*
	 * If the range lies within one cluster, the whole range is handled as a part of that
	 * cluster.
	 */
	if (end < first)
		return zero_in_cluster(q, offset, length);
	if (first > offset)
		r = zero_in_cluster(q, offset, first - offset);
	if (r >= 0 && first < last)
		r = zero_clusters(q, first, last - first, &job);
	if (r >= 0 && last < end)
		r = zero_in_cluster(q, last, end - last);
	return r;
}

int qcow2_discard(struct disk *d, uint64_t offset, uint64_t length)
{
	struct qcow2 *q = qcow2_of(d);
	const struct job job = {.discard = true};
	uint64_t end = offset + length;
	uint64_t first = qcow2_round_up(q, offset), last = end & ~(q->cluster_size - 1);

	if (end == d->size)
		last = qcow2_round_up(q, end);
	return first < last ? zero_clusters(q, first, last - first, &job) : 0;
}
