/* SPDX-License-Identifier: Apache-2.0 */
/* Finds out where the bytes of the disk are in the file, and reads them. */
#include "images/disk/qcow2/internal.h"

struct run {
	int kind;
	bool has_host;
	/*
	 * file offset of the first byte of the run, which is a range of the disk without a gap in
	 * the file
	 */
	uint64_t host;
};

static int classify(struct qcow2 *q, uint64_t guest, const uint8_t *entry, struct run *ret)
{
	uint64_t in_cluster = guest & (q->cluster_size - 1);
	unsigned i = (unsigned)(in_cluster / q->subcluster_size);

	ret->kind = qcow2_entry_kind(q, guest, entry, i);
	if (ret->kind < 0)
		return ret->kind;
	ret->host = qcow2_entry_host(q, guest, be64(entry), &ret->has_host) + in_cluster;
	if (ret->kind == QCOW2_K_PACKED || ret->kind == QCOW2_K_HOLE)
		ret->has_host = false;
	return 0;
}

/*
 * Returns whether the run `next`, which begins `distance` bytes behind the start of `run`,
 * continues that run.
 */
static bool continues(const struct run *run, const struct run *next, uint64_t distance)
{
	if (next->kind != run->kind || run->kind == QCOW2_K_PACKED ||
		next->has_host != run->has_host)
		return false;
	return !run->has_host || next->host == run->host + distance;
}

/*
 * Finds how many bytes from `offset` on, at most `length`, are of the same kind and without a gap
 * in the file. Looks only at `entries` L2 entries, which are those of one cached slice.
 */
static int extend(struct qcow2 *q, uint64_t offset, uint64_t length, const uint8_t *entry,
	uint64_t entries, struct run *run, uint64_t *ret)
{
	uint64_t unit = q->subcluster_size, at = offset, end;
	uint64_t first = offset & ~(q->cluster_size - 1);

	int r = classify(q, offset, entry, run);
	if (r < 0)
		return r;
	end = first + entries * q->cluster_size;
	if (end - offset > length)
		end = offset + length;
	/* A compressed cluster is one unit, even if the image has subclusters. */
	if (run->kind == QCOW2_K_PACKED)
		unit = q->cluster_size;
	for (at = (at & ~(unit - 1)) + unit; at < end; at += unit) {
		struct run next;

		r = classify(q, at, entry + (at - first) / q->cluster_size * q->entry_size, &next);
		/*
		 * The run ends before an invalid entry, so that only a request that reads there
		 * gets an error.
		 */
		if (r < 0 || !continues(run, &next, at - offset))
			break;
	}
	if (r < 0)
		err_clear();
	*ret = (at < end ? at : end) - offset;
	return 0;
}

static int map_locked(struct qcow2 *q, uint64_t offset, uint64_t length, struct disk_extent *ret)
{
	uint64_t per_table = q->cluster_size << q->l2_bits, left, at = offset;
	uint8_t *entry;
	struct run run;

	while (at - offset < length && !qcow2_has_table(q, at))
		at = (at & ~(per_table - 1)) + per_table;
	if (at > offset) {
		ret->kind = DISK_HOLE;
		if (at - offset < length)
			ret->length = at - offset;
		return 0;
	}
	int r = qcow2_entry_get(q, offset, &entry, &left);
	if (r >= 0)
		r = extend(q, offset, length, entry, left, &run, &ret->length);
	if (r < 0)
		return r;
	ret->kind = run.kind == QCOW2_K_HOLE     ? DISK_HOLE
		    : run.kind == QCOW2_K_ZERO   ? DISK_ZERO
		    : run.kind == QCOW2_K_PACKED ? DISK_PACKED
		    : q->h.crypt                 ? DISK_ENCRYPTED
						 : DISK_DATA;
	if (run.has_host) {
		ret->host = run.host;
		ret->fd = q->data_fd;
	}
	return 0;
}

int qcow2_map(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret)
{
	struct qcow2 *q = qcow2_of(d);

	pthread_mutex_lock(&q->lock);
	int r = map_locked(q, offset, length, ret);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int qcow2_read(struct disk *d, const struct iovec *iov, int n, uint64_t offset)
{
	struct qcow2 *q = qcow2_of(d);
	struct qcow2_request req = {.start = offset, .end = offset + iov_length(iov, n)};

	/*
	 * A read of a disk that is open only for reading is not registered as a request, because
	 * nothing changes the disk.
	 */
	if (!d->write)
		return disk_read_mapped(d, iov, n, offset);
	qcow2_request_begin(q, &req);
	pthread_mutex_unlock(&q->lock);
	int r = disk_read_mapped(d, iov, n, offset);
	pthread_mutex_lock(&q->lock);
	qcow2_request_end(q, &req);
	pthread_mutex_unlock(&q->lock);
	return r;
}

static int find_packed(struct qcow2 *q, uint64_t offset, uint64_t *ret_entry, uint64_t *ret_gen)
{
	uint64_t left;
	uint8_t *p;

	pthread_mutex_lock(&q->lock);
	int r = qcow2_entry_get(q, offset, &p, &left);
	if (r >= 0) {
		*ret_entry = be64(p);
		*ret_gen = q->generation;
	}
	pthread_mutex_unlock(&q->lock);
	return r;
}

/* Reads the compressed bytes of a cluster from the file and decompresses them into `out`. */
static int unpack_cluster(struct qcow2 *q, uint64_t offset, uint64_t entry, uint8_t *out)
{
	uint64_t host, length;

	qcow2_packed_place(q, entry, &host, &length);
	_cleanup_free_ uint8_t *in = malloc(length);
	if (!in)
		return disk_err(q->d, ENOMEM, "no memory");
	int r = io_read(q->d->fd, in, length, host);
	if (r < 0)
		return disk_err(q->d, -r, "read compressed data at offset %llu of the file: %s",
			(unsigned long long)host, err_text(-r));
	r = qcow2_decompress(q, in, length, out);
	if (r < 0)
		return err_ctx(r, "%s: compressed cluster of offset %llu (%llu bytes at %llu)",
			q->d->name, (unsigned long long)offset, (unsigned long long)length,
			(unsigned long long)host);
	return 0;
}

/*
 * Reads a part of a compressed cluster. Keeps the last decompressed cluster, because small reads of
 * the same cluster often follow each other.
 */
static int unpack_part(
	struct qcow2 *q, uint64_t offset, uint64_t entry, uint64_t generation, struct iovec to)
{
	int r = 0;

	pthread_mutex_lock(&q->unpack_lock);
	if (!q->unpacked)
		q->unpacked = malloc(q->cluster_size);
	if (!q->unpacked)
		r = disk_err(q->d, ENOMEM, "no memory");
	if (r >= 0 && (q->unpacked_entry != entry || q->unpacked_generation != generation)) {
		q->unpacked_entry = 0;
		r = unpack_cluster(q, offset, entry, q->unpacked);
		if (r >= 0) {
			q->unpacked_entry = entry;
			q->unpacked_generation = generation;
		}
	}
	if (r >= 0)
		memcpy(to.iov_base, q->unpacked + (offset & (q->cluster_size - 1)), to.iov_len);
	pthread_mutex_unlock(&q->unpack_lock);
	return r;
}

int qcow2_unpack(struct disk *d, uint64_t offset, void *buf, size_t len)
{
	struct qcow2 *q = qcow2_of(d);
	uint64_t entry, generation;

	int r = find_packed(q, offset, &entry, &generation);
	if (r < 0)
		return r;
	if (!(entry & QCOW2_PACKED))
		return disk_err(d, EIO, "offset %llu: its cluster changed while it was read",
			(unsigned long long)offset);
	if (len == q->cluster_size)
		return unpack_cluster(q, offset, entry, buf);
	return unpack_part(q, offset, entry, generation, (struct iovec){buf, len});
}
