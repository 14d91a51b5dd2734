/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes to the disk. A request is split into runs of clusters that are handled in the same way:
 * written in place, written to new clusters, or written to clusters that are allocated but hold no
 * data yet. In the last two cases the first and the last cluster also get the old bytes around the
 * request (copy on write), and only after that the L2 table refers to the clusters.
 */
#include "images/disk/qcow2/internal.h"

#define FREED_MAX 1024
#define BOUNCE_MAX (256u << 10)

enum way { IN_PLACE, REUSE, NEW };

struct run {
	enum way way;
	/* range of the disk that this run, a part of a request, writes */
	uint64_t offset, length;
	uint64_t host;       /* file offset of the run's first cluster */
	uint64_t first, end; /* range from `offset` on, extended to whole clusters of the disk */
	/* the new clusters of the file are known to read as zeros before they are written */
	bool fresh;
	/* the old bytes before (head) or behind (tail) the request are zeros */
	bool zero_head, zero_tail;
	/* range of the disk that is written to the file: the request, with old bytes around it */
	uint64_t head, tail;
	/*
	 * all old data of the first (head) or last (tail) cluster has to be copied to the new
	 * cluster
	 */
	bool keep_head, keep_tail;
};

int qcow2_before_change(struct qcow2 *q, uint64_t offset, uint64_t length)
{
	struct disk *d = q->d;
	int r = 0;

	if (q->broken)
		return qcow2_refuse_damaged(q);
	if (length > 0 && q->h.backing && !d->backing && d->alone)
		return disk_err(d, EPERM, "was opened without its backing file: it is only read");
	if (length > 0 && q->h.crypt && !q->luks)
		return disk_err(d, EPERM, "is encrypted, and was opened without its key");
	if (q->lazy && !q->marked) {
		r = qcow2_mark_dirty(q, true);
		q->marked = r >= 0;
	}
	if (r >= 0 && q->freed_n > FREED_MAX)
		r = qcow2_flush_tables(q);
	return r < 0 ? r : qcow2_bitmaps_touch(q, offset, length);
}

/* Returns whether the old bytes at `guest` are known to be zeros. */
static bool is_zero(const struct qcow2 *q, uint64_t guest, int kind)
{
	return kind == QCOW2_K_ZERO ||
	       (kind == QCOW2_K_HOLE && (!q->d->backing || guest >= q->d->backing->size));
}

/*
 * Returns whether the cluster has data that would be lost if only a part of the cluster moved to a
 * new place.
 */
static bool has_data(const struct qcow2 *q, const uint8_t *entry)
{
	uint64_t e = be64(entry);

	if (e & QCOW2_PACKED)
		return true;
	return q->subclusters > 1 && (be64(entry + 8) & 0xffffffffull);
}

/*
 * Returns how to write the cluster at disk offset `at`, of which the request covers the bytes up to
 * `end`: IN_PLACE (to its present cluster of the file), NEW (to a new cluster) or REUSE (to its
 * allocated cluster, which holds no data yet). Sets *ret_host to the file offset of the cluster's
 * data.
 */
static int cluster_way(
	struct qcow2 *q, uint64_t at, uint64_t end, const uint8_t *entry, uint64_t *ret_host)
{
	uint64_t e = be64(entry), cluster = at & ~(q->cluster_size - 1);
	bool has, own = q->l1[at >> (q->h.cluster_bits + q->l2_bits)] & QCOW2_COPIED;
	bool all = true;

	for (uint64_t s = at & ~(q->subcluster_size - 1); s < end && s < cluster + q->cluster_size;
		s += q->subcluster_size) {
		int kind = qcow2_entry_kind(
			q, s, entry, (unsigned)((s - cluster) / q->subcluster_size));

		if (kind < 0)
			return kind;
		if (kind == QCOW2_K_PACKED)
			return NEW;
		all = all && kind == QCOW2_K_DATA;
	}
	*ret_host = qcow2_entry_host(q, at, e, &has);
	if (!has || !own || !(e & QCOW2_COPIED))
		return NEW;
	return all ? IN_PLACE : REUSE;
}

static int look_around(
	struct qcow2 *q, struct run *run, const uint8_t *entry, uint64_t i, bool tail)
{
	uint64_t guest = tail ? run->offset + run->length - 1 : run->offset;
	uint64_t in_cluster = guest & (q->cluster_size - 1);
	int kind = qcow2_entry_kind(
		q, guest, entry + i * q->entry_size, (unsigned)(in_cluster / q->subcluster_size));
	/*
	 * In an image with subclusters, the old bytes are certain to be zeros only for a new
	 * cluster, because other subclusters of an existing cluster may have data.
	 */
	bool zero = is_zero(q, guest, kind) && (q->subclusters == 1 || run->way == NEW);

	if (kind < 0)
		return kind;
	if (tail) {
		run->zero_tail = zero;
		run->keep_tail = run->way == NEW && has_data(q, entry + i * q->entry_size);
	} else {
		run->zero_head = zero;
		run->keep_head = run->way == NEW && has_data(q, entry + i * q->entry_size);
	}
	return 0;
}

/*
 * Plans a write to a part of the disk that has no L2 table yet. The write may reach to the end of
 * the table's first slice, and all its clusters are new.
 */
static int plan_without_table(struct qcow2 *q, struct run *run)
{
	uint64_t span = q->l2.slice / q->entry_size << q->h.cluster_bits;
	uint64_t left = span - (run->offset & (span - 1));

	if (run->length > left)
		run->length = left;
	run->way = NEW;
	run->zero_head = is_zero(q, run->offset, QCOW2_K_HOLE);
	run->zero_tail = is_zero(q, run->offset + run->length - 1, QCOW2_K_HOLE);
	/*
	 * If the backing file ends in the first cluster of the run, the bytes in front of the
	 * request are not zeros, because the backing file may have data there before its end.
	 */
	if (run->zero_head && !is_zero(q, run->offset & ~(q->cluster_size - 1), QCOW2_K_HOLE))
		run->zero_head = false;
	return 0;
}

static int plan_run(struct qcow2 *q, struct run *run)
{
	uint64_t left, host, i = 0, end = run->offset + run->length;
	uint8_t *entry;

	if (!qcow2_has_table(q, run->offset))
		return plan_without_table(q, run);
	int r = qcow2_entry_get(q, run->offset, &entry, &left);
	if (r >= 0)
		r = cluster_way(q, run->offset, end, entry, &run->host);
	if (r < 0)
		return r;
	run->way = (enum way)r;
	uint64_t at = (run->offset & ~(q->cluster_size - 1)) + q->cluster_size;
	for (i = 1; i < left && at < end; i++, at += q->cluster_size) {
		r = cluster_way(q, at, end, entry + i * q->entry_size, &host);
		if (r < 0)
			return r;
		if (r != (int)run->way ||
			(run->way != NEW && host != run->host + i * q->cluster_size))
			break;
	}
	if (at < end)
		run->length = at - run->offset;
	if (run->way == IN_PLACE)
		return 0;
	r = look_around(q, run, entry, 0, false);
	if (r >= 0)
		r = look_around(q, run, entry, i - 1, true);
	if (run->zero_head && q->d->backing &&
		qcow2_entry_kind(q, run->offset, entry, 0) == QCOW2_K_HOLE)
		run->zero_head = is_zero(q, run->offset & ~(q->cluster_size - 1), QCOW2_K_HOLE);
	return r;
}

/*
 * Computes the range that is written to new or reused clusters: the request with the old bytes
 * around it.
 */
static void find_edges(struct qcow2 *q, struct run *run)
{
	uint64_t head_unit = run->keep_head ? q->cluster_size : q->subcluster_size;
	uint64_t tail_unit = run->keep_tail ? q->cluster_size : q->subcluster_size;
	uint64_t end = run->offset + run->length;

	run->head = run->offset & ~(head_unit - 1);
	run->tail = (end + tail_unit - 1) & ~(tail_unit - 1);
	/* If the run is a single cluster, all of the old data in it is copied. */
	if (run->keep_head && run->end - run->first == q->cluster_size)
		run->tail = run->end;
	if (run->keep_tail && run->end - run->first == q->cluster_size)
		run->head = run->first;
}

static int take_clusters(struct qcow2 *q, struct run *run)
{
	uint64_t want = (run->end - run->first) >> q->h.cluster_bits, got = want;

	if (q->has_data_file) {
		run->host = run->first;
		run->fresh = false;
		return 0;
	}
	int r = qcow2_alloc(q, want, &run->host, &got, &run->fresh);
	if (r < 0)
		return r;
	if (got < want) {
		run->end = run->first + (got << q->h.cluster_bits);
		run->length = run->end - run->offset;
		run->keep_tail = run->zero_tail = false;
	}
	return 0;
}

/* Reads the old bytes of the disk from `from` to `to` into buf. */
static int read_old(struct qcow2 *q, uint8_t *buf, uint64_t from, uint64_t to)
{
	uint64_t there = to < q->d->size ? to : q->d->size;

	if (there < to)
		memset(buf + (there > from ? there - from : 0), 0,
			to - (there > from ? there : from));
	if (there <= from)
		return 0;
	struct iovec v = {buf, (size_t)(there - from)};
	return disk_read_mapped(q->d, &v, 1, from);
}

static int write_host(struct qcow2 *q, const struct iov_part *p, size_t len, uint64_t host)
{
	int r = iov_part_write(p, len, q->data_fd, host);

	if (r < 0)
		return disk_err(q->d, -r, "write at offset %llu of the file: %s",
			(unsigned long long)host, err_text(-r));
	return 0;
}

static int write_edge(struct qcow2 *q, const struct run *run, uint64_t from, uint64_t to)
{
	if (from >= to)
		return 0;
	_cleanup_free_ uint8_t *buf = malloc(to - from);
	if (!buf)
		return disk_err(q->d, ENOMEM, "no memory");
	struct iovec v = {buf, (size_t)(to - from)};
	const struct iov_part p = {&v, 1, 0};
	int r = read_old(q, buf, from, to);
	return r < 0 ? r : write_host(q, &p, v.iov_len, run->host + (from - run->first));
}

/* Writes the request's data and the old bytes around the request through one buffer. */
static int write_bounced(struct qcow2 *q, const struct run *run, const struct iov_part *p,
	uint64_t from, uint64_t to)
{
	_cleanup_free_ uint8_t *buf = malloc(to - from);
	uint64_t end = run->offset + run->length;

	if (!buf)
		return disk_err(q->d, ENOMEM, "no memory");
	struct iovec v = {buf, (size_t)(to - from)};
	const struct iov_part whole = {&v, 1, 0};
	int r = from < run->offset ? read_old(q, buf, from, run->offset) : 0;
	if (r >= 0 && end < to)
		r = read_old(q, buf + (end - from), end, to);
	if (r < 0)
		return r;
	iov_part_get(p, buf + (run->offset - from), (size_t)run->length);
	return write_host(q, &whole, v.iov_len, run->host + (from - run->first));
}

/*
 * Fills buf with the disk's bytes from `from` to `to`: those of the request, and old bytes around
 * them. Moves *p behind the bytes that it has taken of the request.
 */
static int gather(struct qcow2 *q, const struct run *run, struct iov_part *p, uint8_t *buf,
	uint64_t from, uint64_t to)
{
	uint64_t end = run->offset + run->length;
	uint64_t first = from < run->offset ? run->offset : from, last = to < end ? to : end;
	int r = 0;

	if (from < run->offset)
		r = read_old(q, buf, from, to < run->offset ? to : run->offset);
	if (r >= 0 && first < last) {
		iov_part_get(p, buf + (first - from), (size_t)(last - first));
		iov_part_skip(p, (size_t)(last - first));
	}
	if (r >= 0 && to > end)
		r = read_old(q, buf + (from > end ? 0 : end - from), from > end ? from : end, to);
	return r;
}

static uint64_t sector_down(uint64_t at)
{
	return at & ~(uint64_t)(LUKS_SECTOR - 1);
}

/*
 * Writes an encrypted run, piece by piece: whole clusters or subclusters if they are new, or else
 * whole sectors, because less than a sector cannot be encrypted.
 */
static int write_encrypted(struct qcow2 *q, const struct run *run, const struct iov_part *p)
{
	uint64_t end = sector_down(run->offset + run->length + LUKS_SECTOR - 1);
	uint64_t at = run->way == IN_PLACE ? sector_down(run->offset) : run->head;
	uint64_t to = run->way == IN_PLACE ? end : run->tail;
	size_t room = to - at < BOUNCE_MAX ? (size_t)(to - at) : BOUNCE_MAX;
	_cleanup_free_ uint8_t *buf = malloc(room);
	struct iov_part part = *p;
	int r = buf ? 0 : disk_err(q->d, ENOMEM, "no memory");

	while (at < to && r >= 0) {
		size_t here = to - at < room ? (size_t)(to - at) : room;
		uint64_t host = run->host + (at - run->first);
		struct iovec v = {buf, here};
		const struct iov_part whole = {&v, 1, 0};

		r = gather(q, run, &part, buf, at, at + here);
		if (r >= 0)
			r = qcow2_encrypt(q, host, buf, here);
		if (r >= 0)
			r = write_host(q, &whole, here, host);
		at += here;
	}
	return r;
}

static int write_data(struct qcow2 *q, const struct run *run, const struct iov_part *p)
{
	uint64_t from = run->offset, to = run->offset + run->length, end = to;

	if (q->h.crypt)
		return write_encrypted(q, run, p);
	if (run->way != IN_PLACE) {
		/*
		 * No zeros are written before the request's data if the clusters are fresh, because
		 * fresh clusters read as zeros.
		 */
		if (!(run->fresh && run->zero_head && !run->keep_head))
			from = run->head;
		if (!(run->fresh && run->zero_tail && !run->keep_tail))
			to = run->tail;
	}
	if (to - from > run->length && to - from <= BOUNCE_MAX)
		return write_bounced(q, run, p, from, to);
	int r = write_edge(q, run, from, run->offset);
	if (r >= 0)
		r = write_host(q, p, (size_t)run->length, run->host + (run->offset - run->first));
	return r < 0 ? r : write_edge(q, run, end, to);
}

/* Sets the L2 entry of a cluster, and marks the subclusters that were written as having data. */
static int set_entry(struct qcow2 *q, const struct run *run, uint64_t cluster, uint8_t *entry)
{
	uint64_t old = be64(entry), host = run->host + (cluster - run->first);
	int r = run->way == NEW ? qcow2_free_entry(q, old) : 0;

	if (r < 0)
		return r;
	put_be64(entry, host | QCOW2_COPIED);
	if (q->subclusters == 1)
		return 0;
	uint64_t bitmap = old & QCOW2_PACKED ? 0 : be64(entry + 8);
	if (run->way == NEW)
		bitmap &= ~0xffffffffull;
	for (unsigned i = 0; i < QCOW2_SUBCLUSTERS; i++) {
		uint64_t at = cluster + i * q->subcluster_size;

		if (at < run->head || at >= run->tail)
			continue;
		bitmap |= 1ull << i;
		bitmap &= ~(1ull << (i + 32));
	}
	put_be64(entry + 8, bitmap);
	return 0;
}

static int link_clusters(struct qcow2 *q, const struct run *run)
{
	uint64_t at = run->first;

	while (at < run->end) {
		uint64_t left;
		uint8_t *entry;
		int r = qcow2_entry_for_write(q, at, &entry, &left);

		if (r >= 0)
			qcow2_cache_dirty(&q->l2, entry);
		for (; r >= 0 && left > 0 && at < run->end;
			left--, at += q->cluster_size, entry += q->entry_size)
			r = set_entry(q, run, at, entry);
		if (r < 0)
			return r;
	}
	return 0;
}

/*
 * Returns a struct qcow2_request for the run. New or reused clusters are closed to all other
 * requests. So is a sector of which only a part is written if the image is encrypted, because the
 * whole sector is read, changed and written.
 */
static struct qcow2_request request_of(const struct qcow2 *q, const struct run *run)
{
	uint64_t end = run->offset + run->length;

	if (run->way != IN_PLACE)
		return (struct qcow2_request){
			.start = run->first, .end = run->end, .exclusive = true};
	if (!q->h.crypt || (run->offset | end) % LUKS_SECTOR == 0)
		return (struct qcow2_request){.start = run->offset, .end = end};
	return (struct qcow2_request){.start = sector_down(run->offset),
		.end = sector_down(end + LUKS_SECTOR - 1),
		.exclusive = true};
}

/* Takes the lock and plans the first run. Waits while other requests use the run's clusters. */
static int begin_run(struct qcow2 *q, struct run *run, struct qcow2_request *req)
{
	const struct run wanted = *run;
	int r;

	pthread_mutex_lock(&q->lock);
	for (;;) {
		*run = wanted;
		r = qcow2_before_change(q, run->offset, run->length);
		if (r >= 0)
			r = plan_run(q, run);
		if (r < 0)
			return r;
		run->first = run->offset & ~(q->cluster_size - 1);
		run->end = qcow2_round_up(q, run->offset + run->length);
		*req = request_of(q, run);
		if (!qcow2_request_blocked(q, req))
			break;
		qcow2_request_wait(q);
	}
	if (run->way == NEW)
		r = take_clusters(q, run);
	if (r >= 0 && !q->has_data_file && run->way != NEW)
		r = qcow2_guard(q, run->host, run->end - run->first, "data");
	find_edges(q, run);
	if (r >= 0)
		qcow2_request_add(q, req);
	return r;
}

static int write_run(struct qcow2 *q, struct run *run, const struct iov_part *p)
{
	struct qcow2_request req;
	int r = begin_run(q, run, &req);

	if (r < 0) {
		pthread_mutex_unlock(&q->lock);
		return r;
	}
	pthread_mutex_unlock(&q->lock);
	r = write_data(q, run, p);
	pthread_mutex_lock(&q->lock);
	if (r >= 0 && run->way != IN_PLACE)
		r = link_clusters(q, run);
	else if (r < 0 && run->way == NEW && !q->has_data_file)
		qcow2_alloc_undo(q, run->host, (run->end - run->first) >> q->h.cluster_bits);
	qcow2_request_end(q, &req);
	pthread_mutex_unlock(&q->lock);
	return r;
}

int qcow2_write(struct disk *d, const struct iovec *iov, int n, uint64_t offset)
{
	struct qcow2 *q = qcow2_of(d);
	struct iov_part p = {iov, n, 0};
	uint64_t left = iov_length(iov, n);

	while (left > 0) {
		struct run run = {.offset = offset, .length = left};
		int r = write_run(q, &run, &p);

		if (r < 0)
			return r;
		iov_part_skip(&p, (size_t)run.length);
		offset += run.length;
		left -= run.length;
	}
	return 0;
}
