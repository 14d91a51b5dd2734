/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives a disk image with requests that follow from a seed, and checks the contents of the disk
 * afterwards.
 *
 *	drive fill FILE SIZE
 *	drive run FILE FORMAT SEED OPS THREADS DIR LOG
 *	drive verify FILE FORMAT SEED OPS THREADS DIR FLUSHED CLUSTER BACKED
 *	drive bytes FILE FORMAT SEED OPS THREADS
 *	drive scattered FILE FORMAT SEED OPS THREADS
 *
 * The variable DRIVE_KEY of the environment is the passphrase of an encrypted image.
 *
 * DIR is the directory that backing files must be in, or "-" if there are none. `fill` makes a raw
 * file that serves as a backing file.
 *
 * `run` writes, zeroes, discards, flushes and reads. A write fills each of its sectors with the
 * number of the request. After each successful flush it appends to LOG the number of requests that
 * were complete before the flush. With several threads each thread has stripes of the disk of its
 * own. The stripes end within clusters, so that two threads share clusters but never bytes.
 *
 * `verify` computes what each sector must contain. The effect of a request up to FLUSHED (a number
 * for each thread, separated by commas) must be there; the effect of a later one may be there or
 * not, because the process was killed. A sector that no request touched must contain the number
 * that fill() computes if it is in the first BACKED bytes, else zeros. CLUSTER is the size of the
 * pieces that the image can discard; 0 means that it cannot discard.
 *
 * `bytes` writes pieces that begin and end anywhere in a sector. Each thread has every THREADS-th
 * piece of the disk. Because a sector has pieces of several threads, a write that loses the bytes
 * of another thread is found when all threads have ended.
 *
 * `scattered` writes OPS requests of BUFFERS buffers, as a guest makes them whose memory is
 * scattered, and reads each back into such buffers. It needs a disk of 1 MiB for each thread.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "images/disk/disk.h"

#define SECTOR 512u
#define STRIPE (37u * 1024)
#define MAX_LEN (300u * 1024)
#define THREADS_MAX 8
/*
 * size of a piece that the command `bytes` writes; no divisor of a sector, so that pieces and
 * sectors overlap
 */
#define PIECE 100u
/* how many buffers a request of the command `scattered` has, the most that virtio-blk allows */
#define BUFFERS 254u
#define BUFFER_LEN 4096u

enum kind { WRITE, ZERO, DISCARD, FLUSH, READ };

struct op {
	enum kind kind;
	uint64_t offset, length;
};

struct drive {
	struct disk *d;
	uint64_t seed, ops, size;
	unsigned threads;
	int log;
	int failed;
};

static uint64_t hash(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ull;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
	x = (x ^ x >> 27) * 0x94d049bb133111ebull;
	return x ^ x >> 31;
}

/*
 * Computes request i of a thread. With several threads the request stays within one stripe of the
 * thread.
 */
static struct op op_of(const struct drive *v, unsigned thread, uint64_t i)
{
	uint64_t h = hash(v->seed * 1000003 + thread * 7919 + i * 31), k = h % 100;
	struct op op = {.kind = k < 55   ? WRITE
				: k < 70 ? ZERO
				: k < 85 ? DISCARD
				: k < 90 ? FLUSH
					 : READ};
	uint64_t a = hash(h), b = hash(a), start = 0, span = v->size;

	if (v->threads > 1) {
		uint64_t stripes = v->size / STRIPE / v->threads;

		start = (hash(b) % stripes * v->threads + thread) * STRIPE;
		span = STRIPE;
	}
	op.offset = start + a % (span / SECTOR) * SECTOR;
	uint64_t left = start + span - op.offset;
	uint64_t max = b % 8 == 0 ? MAX_LEN : b % 3 ? 16 * SECTOR : 160 * SECTOR;
	/*
	 * The lengths are chosen so that some requests cover whole clusters of the image, and some
	 * reach to the end of the disk or stripe.
	 */
	op.length = (b >> 8) % (max / SECTOR) * SECTOR + SECTOR;
	if (b % 5 == 0) {
		op.offset = op.offset / 65536 * 65536;
		if (op.offset < start)
			op.offset = start;
		left = start + span - op.offset;
		op.length = 65536;
	}
	if (op.length > left)
		op.length = left;
	return op;
}

/* Returns the number with which the command `fill` fills this sector of a backing file. */
static uint64_t fill(uint64_t sector)
{
	return hash(sector) | 1ull << 63;
}

static uint64_t stamp(unsigned thread, uint64_t i)
{
	return (uint64_t)thread << 48 | (i + 1);
}

static void fill_op(uint8_t *buf, const struct op *op, uint64_t value)
{
	for (uint64_t at = 0; at < op->length; at += 8)
		memcpy(buf + at, &value, 8);
}

static int run_op(struct drive *v, unsigned thread, uint64_t i, uint8_t *buf)
{
	struct op op = op_of(v, thread, i);

	switch (op.kind) {
	case WRITE:
		fill_op(buf, &op, stamp(thread, i));
		return disk_write(v->d, buf, op.length, op.offset);
	case ZERO:
		return disk_zero(v->d, op.offset, op.length);
	case DISCARD:
		return disk_discard(v->d, op.offset, op.length);
	case READ:
		return disk_read(v->d, buf, op.length, op.offset);
	case FLUSH:
		break;
	}
	char line[64];
	int r = disk_flush(v->d);
	int n = snprintf(line, sizeof(line), "%u %llu\n", thread, (unsigned long long)i + 1);
	if (r >= 0 && v->log >= 0 && write(v->log, line, (size_t)n) != n)
		return err_sys("write the log");
	return r;
}

struct runner {
	struct drive *v;
	unsigned thread;
};

static void *run_thread(void *arg)
{
	struct runner *p = arg;
	_cleanup_free_ uint8_t *buf = malloc(MAX_LEN);

	for (uint64_t i = 0; buf && i < p->v->ops; i++)
		if (run_op(p->v, p->thread, i, buf) < 0) {
			fprintf(stderr, "drive: request %llu of thread %u: %s\n",
				(unsigned long long)i, p->thread, err_msg());
			p->v->failed = 1;
			break;
		}
	return NULL;
}

/*
 * Runs one thread of the command `bytes`. Each piece that it writes holds the number of the piece,
 * and how often the thread has written it.
 */
static void *run_bytes(void *arg)
{
	struct runner *p = arg;
	struct drive *v = p->v;
	uint64_t pieces = v->size / PIECE / v->threads;
	_cleanup_free_ uint8_t *value = calloc(1, pieces);
	uint8_t buf[PIECE], want[PIECE];
	int r = value ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < v->ops + pieces && r >= 0; i++) {
		bool last = i >= v->ops;
		uint64_t n =
			last ? i - v->ops : hash(v->seed + i * THREADS_MAX + p->thread) % pieces;
		uint64_t at = (n * v->threads + p->thread) * PIECE;

		memset(want, value[n], PIECE);
		r = disk_read(v->d, buf, PIECE, at);
		if (r >= 0 && memcmp(buf, want, PIECE) != 0)
			r = err_set(EIO, "byte %llu: found another value than %u",
				(unsigned long long)at, value[n]);
		memset(buf, ++value[n], PIECE);
		if (r >= 0 && !last)
			r = disk_write(v->d, buf, PIECE, at);
	}
	if (r < 0) {
		fprintf(stderr, "drive: thread %u: %s\n", p->thread, err_msg());
		v->failed = 1;
	}
	return NULL;
}

/* Runs one thread of the command `scattered`. */
static void *run_scattered(void *arg)
{
	struct runner *p = arg;
	struct drive *v = p->v;
	_cleanup_free_ uint8_t *want = malloc((size_t)BUFFERS * BUFFER_LEN);
	_cleanup_free_ uint8_t *found = malloc((size_t)BUFFERS * BUFFER_LEN);
	struct iovec out[BUFFERS], in[BUFFERS];
	uint64_t at = (uint64_t)p->thread << 20;
	int r = want && found ? 0 : -ENOMEM;

	/* The first buffer of a request is the last one in memory. */
	for (unsigned i = 0; i < BUFFERS && r >= 0; i++) {
		out[i] = (struct iovec){want + (BUFFERS - 1 - i) * BUFFER_LEN, BUFFER_LEN};
		in[i] = (struct iovec){found + (BUFFERS - 1 - i) * BUFFER_LEN, BUFFER_LEN};
	}
	for (uint64_t i = 0; i < v->ops && r >= 0; i++) {
		for (size_t n = 0; n < (size_t)BUFFERS * BUFFER_LEN; n++)
			want[n] = (uint8_t)hash(v->seed + i + n);
		r = disk_writev(v->d, out, BUFFERS, at);
		if (r >= 0)
			r = disk_readv(v->d, in, BUFFERS, at);
		if (r >= 0 && memcmp(want, found, (size_t)BUFFERS * BUFFER_LEN) != 0)
			r = err_set(EIO, "request %llu: found other bytes than were written",
				(unsigned long long)i);
	}
	if (r < 0) {
		fprintf(stderr, "drive: thread %u: %s\n", p->thread, err_msg());
		v->failed = 1;
	}
	return NULL;
}

static int run_all(struct drive *v, void *(*run)(void *))
{
	struct runner runners[THREADS_MAX];
	pthread_t ids[THREADS_MAX];

	for (unsigned t = 0; t < v->threads; t++) {
		runners[t] = (struct runner){v, t};
		if (pthread_create(&ids[t], NULL, run, &runners[t]) != 0)
			return -EAGAIN;
	}
	for (unsigned t = 0; t < v->threads; t++)
		pthread_join(ids[t], NULL);
	return v->failed ? -EIO : disk_flush(v->d);
}

/*
 * Holds what the sectors must contain: the value after the flushed requests, and how many requests
 * of each thread were flushed.
 */
struct model {
	uint64_t *value;
	uint64_t flushed[THREADS_MAX];
	const struct drive *v;
};

/* Applies a request to the model: sets the value that the request leaves in each of its sectors. */
static void apply(const struct model *m, unsigned thread, uint64_t i, uint64_t cluster)
{
	struct op op = op_of(m->v, thread, i);
	uint64_t from = op.offset, to = op.offset + op.length;

	if (op.kind != WRITE && op.kind != ZERO && op.kind != DISCARD)
		return;
	if (op.kind == DISCARD && !cluster)
		return;
	/*
	 * A discard only guarantees that clusters which it covers whole become zeros; the sectors
	 * of other clusters stay as they were.
	 */
	if (op.kind == DISCARD) {
		from = (from + cluster - 1) / cluster * cluster;
		to = to == m->v->size ? to : to / cluster * cluster;
	}
	for (uint64_t at = from; at < to; at += SECTOR)
		m->value[at / SECTOR] = op.kind == WRITE ? stamp(thread, i) : 0;
}

/*
 * Marks the sectors whose value on the disk is the result of a request that came after the last
 * flush, because such a request may or may not have taken effect.
 */
static void allow(const struct model *m, const uint64_t *found, bool *allowed)
{
	for (unsigned t = 0; t < m->v->threads; t++)
		for (uint64_t i = m->flushed[t]; i < m->v->ops; i++) {
			struct op op = op_of(m->v, t, i);
			uint64_t value = op.kind == WRITE ? stamp(t, i) : 0;

			if (op.kind == FLUSH || op.kind == READ)
				continue;
			for (uint64_t s = op.offset / SECTOR; s < (op.offset + op.length) / SECTOR;
				s++)
				allowed[s] = allowed[s] || found[s] == value;
		}
}

/*
 * Reads the number that fills a sector. Fails if the sector is not filled with one and the same
 * number, because then a write has reached the disk only in part.
 */
static int number_of(uint64_t sector, const uint8_t *buf, uint64_t *ret)
{
	memcpy(ret, buf, 8);
	for (unsigned i = 8; i < SECTOR; i += 8)
		if (memcmp(buf + i, buf, 8) != 0)
			return err_set(EIO, "sector %llu: it holds parts of two writes",
				(unsigned long long)sector);
	return 0;
}

static int read_numbers(struct drive *v, uint64_t *found)
{
	uint64_t sectors = v->size / SECTOR;
	_cleanup_free_ uint8_t *buf = malloc(SECTOR * 2048);
	int r = buf ? 0 : -ENOMEM;

	for (uint64_t s = 0; s < sectors && r >= 0; s++) {
		if (s % 2048 == 0)
			r = disk_read(v->d, buf,
				(size_t)(sectors - s < 2048 ? sectors - s : 2048) * SECTOR,
				s * SECTOR);
		if (r >= 0)
			r = number_of(s, buf + s % 2048 * SECTOR, &found[s]);
	}
	return r;
}

static int verify(struct drive *v, const char *flushed, uint64_t backed, uint64_t cluster)
{
	struct model m = {.v = v};
	uint64_t sectors = v->size / SECTOR;
	_cleanup_free_ uint64_t *value = calloc(sectors, sizeof(*value));
	_cleanup_free_ uint64_t *found = calloc(sectors, sizeof(*found));
	_cleanup_free_ bool *allowed = calloc(sectors, sizeof(*allowed));

	if (!value || !found || !allowed)
		return err_set(ENOMEM, "no memory");
	m.value = value;
	for (unsigned t = 0; t < v->threads; t++) {
		m.flushed[t] = strtoull(flushed, NULL, 10);
		flushed += strcspn(flushed, ",");
		flushed += *flushed == ',';
	}
	for (uint64_t s = 0; s < sectors && s < backed / SECTOR; s++)
		value[s] = fill(s);
	for (unsigned t = 0; t < v->threads; t++)
		for (uint64_t i = 0; i < m.flushed[t]; i++)
			apply(&m, t, i, cluster);
	int r = read_numbers(v, found);
	if (r >= 0)
		allow(&m, found, allowed);
	for (uint64_t s = 0; s < sectors && r >= 0; s++)
		if (found[s] != value[s] && !allowed[s])
			r = err_set(EIO, "sector %llu: found 0x%llx, expected 0x%llx",
				(unsigned long long)s, (unsigned long long)found[s],
				(unsigned long long)value[s]);
	return r;
}

static int make_backing(const char *path, uint64_t size)
{
	FILE *f = fopen(path, "w");
	int r = f ? 0 : err_sys("%s", path);

	for (uint64_t s = 0; f && s < size / SECTOR; s++) {
		uint64_t buf[SECTOR / 8];

		for (size_t i = 0; i < SECTOR / 8; i++)
			buf[i] = fill(s);
		fwrite(buf, sizeof(buf), 1, f);
	}
	if (f && fclose(f))
		r = err_sys("%s", path);
	return r;
}

static int open_disk(struct drive *v, char **argv, bool write, struct disk_dir *allowed)
{
	struct disk_options o = {.format = argv[3], .name = argv[2], .write = write};
	const char *dir = argv[7] ? argv[7] : "-", *text = getenv("DRIVE_KEY");
	const struct disk_key key = {(const uint8_t *)text, text ? strlen(text) : 0};
	int fd = open(argv[2], (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);

	if (fd < 0)
		return err_sys("%s", argv[2]);
	if (text)
		o.key = &key;
	if (!streq(dir, "-")) {
		*allowed = (struct disk_dir){.fd = open(dir, O_PATH | O_CLOEXEC), .path = dir};
		o.dir = allowed;
		o.path = argv[2] + strlen(dir) + 1;
	}
	return disk_open(&v->d, fd, &o);
}

int main(int argc, char **argv)
{
	struct drive v = {.log = -1};
	struct disk_dir allowed;

	if (argc == 4 && streq(argv[1], "fill"))
		return make_backing(argv[2], strtoull(argv[3], NULL, 10)) < 0;
	bool bytes = argc == 7 && streq(argv[1], "bytes");
	bool scattered = argc == 7 && streq(argv[1], "scattered");
	bool run = bytes || scattered || (argc == 9 && streq(argv[1], "run"));
	if (!run && (argc != 11 || !streq(argv[1], "verify")))
		return 2;
	v.seed = strtoull(argv[4], NULL, 10);
	v.ops = strtoull(argv[5], NULL, 10);
	v.threads = (unsigned)atoi(argv[6]);
	if (run && argc == 9 && !streq(argv[8], "-"))
		v.log = open(argv[8], O_WRONLY | O_CREAT | O_APPEND, 0600);
	int r = open_disk(&v, argv, run, &allowed);
	if (r >= 0)
		v.size = disk_size(v.d);
	if (r >= 0)
		r = run ? run_all(&v, bytes       ? run_bytes
				      : scattered ? run_scattered
						  : run_thread)
			: verify(&v, argv[8], strtoull(argv[10], NULL, 10),
				  strtoull(argv[9], NULL, 10));
	if (r < 0)
		fprintf(stderr, "drive: %s\n", err_msg());
	disk_close(v.d);
	return r < 0;
}
