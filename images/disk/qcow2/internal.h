/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2, versions 2 and 3 (QEMU's docs/interop/qcow2): what its files share.
 *
 * Theory of operation. The disk is cut into clusters. A guest's offset finds its cluster through
 * two levels of tables, L1 (whole in memory) and L2 (slices of 4 KiB in a cache). Clusters of the
 * file are counted by refcount blocks (slices in a cache of their own), which a refcount table
 * (whole in memory) finds.
 *
 * Crash safety is an order of writes, kept by flush.c: first refcounts that grew, and data; then
 * L2 tables; then L1; and only then refcounts that shrank. A cluster that is freed goes on a list
 * (`freed`), and is not used again before the tables without it are on the disk. So a crash at any
 * point leaves at most clusters that are counted and not used.
 *
 * Locking. `lock` guards the tables and caches; no data is read or written under it. A request
 * that changes the tables announces its clusters (request.c), and waits for requests on the same
 * ones; between the two it reads and writes data with the lock released.
 */
#pragma once
#include <pthread.h>

#include "images/disk/format.h"
#include "images/disk/qcow2.h"

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_L1_MAX (32u << 20)   /* bytes: QEMU's limit */
#define QCOW2_TABLE_MAX (8u << 20) /* bytes of a refcount table: QEMU's limit */
#define QCOW2_SNAPSHOTS_MAX 65536u /* QEMU's limit */
#define QCOW2_BITMAPS_MAX 65535u   /* QEMU's limit */
#define QCOW2_HEADER_V2 72
#define QCOW2_HEADER_V3 104
#define QCOW2_NAME_MAX 1023
#define QCOW2_SLICE 4096

/* incompatible_features */
#define QCOW2_DIRTY (1ull << 0)
#define QCOW2_CORRUPT (1ull << 1)
#define QCOW2_DATA_FILE (1ull << 2)
#define QCOW2_COMPRESSION (1ull << 3)
#define QCOW2_EXTENDED_L2 (1ull << 4)
#define QCOW2_INCOMPATIBLE_KNOWN 0x1full

/* compatible_features, autoclear_features */
#define QCOW2_LAZY_REFCOUNTS (1ull << 0)
#define QCOW2_BITMAPS (1ull << 0)
#define QCOW2_RAW_DATA (1ull << 1)
#define QCOW2_AUTOCLEAR_KNOWN 0x3ull

/* Entries of L1 and L2 tables. */
#define QCOW2_COPIED (1ull << 63)
#define QCOW2_PACKED (1ull << 62)
#define QCOW2_ZERO (1ull << 0)
#define QCOW2_OFFSET 0x00fffffffffffe00ull
#define QCOW2_L1_RESERVED (0x7full << 56 | 0x1ff)
#define QCOW2_L2_RESERVED (0x3full << 56 | 0x1fe)
#define QCOW2_TABLE_OFFSET 0xfffffffffffffe00ull /* of the refcount table */
#define QCOW2_SUBCLUSTERS 32

/* Offsets of fields that are updated by themselves. */
#define QCOW2_AT_SIZE 24
#define QCOW2_AT_L1 36        /* l1_size, l1_table_offset */
#define QCOW2_AT_TABLE 48     /* refcount_table_offset, refcount_table_clusters */
#define QCOW2_AT_SNAPSHOTS 60 /* nb_snapshots, snapshots_offset */
#define QCOW2_AT_INCOMPATIBLE 72
#define QCOW2_AT_AUTOCLEAR 88

#define QCOW2_EXT_END 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURES 0x6803f857u
#define QCOW2_EXT_BITMAPS 0x23852875u
#define QCOW2_EXT_CRYPTO 0x0537be77u
#define QCOW2_EXT_DATA_FILE 0x44415441u

struct qcow2_header {
	unsigned version, cluster_bits, refcount_order, crypt;
	uint32_t l1_size, table_clusters, snapshots, header_length;
	uint64_t size, l1_offset, table_offset, snapshots_offset;
	uint64_t incompatible, compatible, autoclear;
	enum qcow2_compression compression;
	uint8_t *additional; /* fields behind compression_type, kept when the header is written */
	size_t additional_length;
	char *backing, *backing_format, *data_file; /* NULL: none */
	uint32_t bitmaps;                           /* 0: no bitmaps extension */
	uint64_t bitmaps_offset, bitmaps_size;
	struct strbuf features; /* the feature name table, as it is in the file */
	struct strbuf unknown;  /* extensions of other kinds, with their heads, as they are */
};

/* A cache of parts of tables. */
struct qcow2_slot {
	uint64_t offset; /* in the file; 0: empty */
	uint32_t next;   /* slot of the same hash */
	bool dirty, used;
};

struct qcow2_cache {
	const char *what; /* "L2 table", for messages */
	size_t slice, n, hand, dirty;
	uint8_t *data;
	struct qcow2_slot *slots;
	uint32_t *heads;
	size_t mask;
};

/* A set of offsets: open addressing, 0 is empty. */
struct qcow2_set {
	uint64_t *v;
	size_t n, cap;
};

/* What a request is doing, for others to wait for it. */
struct qcow2_request {
	uint64_t start, end;
	bool exclusive;
	struct qcow2_request *next;
};

struct qcow2_freed {
	uint64_t cluster, count;
};

struct qcow2_tracked_bitmap; /* bitmaps.c */

struct qcow2 {
	struct disk *d;
	struct qcow2_header h;
	uint64_t cluster_size;
	unsigned l2_bits;     /* entries of an L2 table, as a power of two */
	unsigned block_bits;  /* refcounts of a refcount block, likewise */
	unsigned entry_size;  /* of an L2 entry: 8, or 16 with subclusters */
	unsigned subclusters; /* of a cluster: 1 or 32 */
	uint64_t subcluster_size;
	int data_fd; /* of guest clusters: the disk's fd, or the data file */
	bool has_data_file;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool lock_ready;
	struct qcow2_request *requests;

	uint64_t *l1; /* as in the file, in the host's byte order */
	uint32_t l1_dirty_from, l1_dirty_to;
	uint64_t *table; /* the refcount table, in the host's byte order */
	uint32_t table_n, table_dirty_from, table_dirty_to;
	struct qcow2_cache l2, refs;
	struct qcow2_set tables; /* L2 tables and refcount blocks: no data may be written there */

	uint64_t hint;       /* no cluster below it is free */
	uint64_t fresh_from; /* clusters from here on were never used: they read as zeros */
	uint64_t packed_at;  /* where the next compressed cluster may go; 0: a new cluster */
	struct qcow2_freed *freed;
	size_t freed_n, freed_cap;
	bool broken;      /* a table is damaged: nothing is written any more */
	bool lazy;        /* refcounts are written at the end; the header says dirty */
	bool marked;      /* the header says dirty, and we set it */
	bool bitmaps_off; /* the bitmaps were looked at: tracked, or declared stale */
	struct qcow2_tracked_bitmap *tracked;
	size_t tracked_n;

	pthread_mutex_t
		unpack_lock; /* of what follows: the last compressed cluster that was read */
	uint64_t unpacked_entry, unpacked_generation;
	uint8_t *unpacked;
	uint64_t generation; /* counts up when compressed data is freed or written */
};

static inline struct qcow2 *qcow2_of(struct disk *d)
{
	return d->state;
}

static inline uint64_t qcow2_round_up(const struct qcow2 *q, uint64_t n)
{
	return (n + q->cluster_size - 1) & ~(q->cluster_size - 1);
}

/* header.c */
int qcow2_header_read(struct disk *d, struct qcow2_header *h) must_check;
void qcow2_header_release(struct qcow2_header *h);
/* The header, extensions and backing name as bytes: at most a cluster. */
int qcow2_header_format(struct disk *d, const struct qcow2_header *h, struct strbuf *out)
	must_check;
/* Writes all of it; for what is rare. The caller flushes before and after. */
int qcow2_header_write(struct qcow2 *q) must_check;
/* Writes some bytes of the header, between two syncs. */
int qcow2_header_patch(struct qcow2 *q, unsigned at, const void *bytes, size_t len) must_check;
int qcow2_mark_dirty(struct qcow2 *q, bool dirty) must_check;

/* cache.c: under the lock. A pointer is good until the next call that gets another slice. */
int qcow2_cache_init(struct qcow2 *q, struct qcow2_cache *c, const char *what, size_t bytes)
	must_check;
void qcow2_cache_release(struct qcow2_cache *c);
int qcow2_cache_get(struct qcow2 *q, struct qcow2_cache *c, uint64_t offset, uint8_t **ret)
	must_check;
void qcow2_cache_dirty(struct qcow2_cache *c, const uint8_t *p);
/* Forgets what the cache has of these bytes, unwritten. */
void qcow2_cache_forget(struct qcow2_cache *c, uint64_t offset, uint64_t length);
int qcow2_cache_write(struct qcow2 *q, struct qcow2_cache *c) must_check;

/* set.c */
int qcow2_set_add(struct qcow2_set *s, uint64_t offset) must_check; /* 1: it is there already */
bool qcow2_set_has(const struct qcow2_set *s, uint64_t offset);
void qcow2_set_remove(struct qcow2_set *s, uint64_t offset);
void qcow2_set_release(struct qcow2_set *s);

/* guard.c */
int qcow2_guard_build(struct qcow2 *q) must_check;
/* -EIO, and nothing is written any more, if the range holds tables or the header. */
int qcow2_guard(struct qcow2 *q, uint64_t host, uint64_t length, const char *what) must_check;
/* Declares the image damaged: the message, and the header's corrupt bit. Returns -EIO. */
int qcow2_damaged(struct qcow2 *q, const char *fmt, ...) printf_like(2, 3);

/* refcount.c: under the lock. */
int qcow2_ref_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret) must_check;
int qcow2_ref_set(struct qcow2 *q, uint64_t cluster, uint64_t value) must_check;
int qcow2_ref_add(struct qcow2 *q, uint64_t cluster, int delta) must_check;
uint64_t qcow2_ref_max(const struct qcow2 *q);
uint64_t qcow2_ref_read_entry(unsigned order, const uint8_t *block, uint64_t i);
void qcow2_ref_write_entry(unsigned order, uint8_t *block, uint64_t i, uint64_t value);

/* alloc.c: under the lock. */
/* 1 to `want` neighbouring clusters, counted once; *ret_fresh: they are known to be zeros. */
int qcow2_alloc(struct qcow2 *q, uint64_t want, uint64_t *ret_host, uint64_t *ret_n,
	bool *ret_fresh) must_check;
/* Exactly n neighbouring clusters, for tables. */
int qcow2_alloc_table(struct qcow2 *q, uint64_t n, uint64_t *ret_host) must_check;
/* Takes back clusters that nothing refers to yet. Errors only leave them counted. */
void qcow2_alloc_undo(struct qcow2 *q, uint64_t host, uint64_t n);
/* Counts down once the tables are on the disk. */
int qcow2_free_later(struct qcow2 *q, uint64_t host, uint64_t n) must_check;
/* What an L2 entry refers to, likewise. */
int qcow2_free_entry(struct qcow2 *q, uint64_t entry) must_check;
int qcow2_free_apply(struct qcow2 *q) must_check;
int qcow2_block_for(struct qcow2 *q, uint64_t cluster, bool *ret_took) must_check;

/* flush.c: under the lock. */
int qcow2_sync(struct qcow2 *q) must_check;
int qcow2_flush_refs(struct qcow2 *q) must_check; /* refcounts, the table, data; and a sync */
int qcow2_flush_tables(struct qcow2 *q) must_check;
/* All of it; with the freed clusters' counts too. */
int qcow2_flush_all(struct qcow2 *q) must_check;

/* tables.c: under the lock. */
int qcow2_entry_get(struct qcow2 *q, uint64_t guest, uint8_t **ret, uint64_t *ret_left) must_check;
int qcow2_entry_for_write(struct qcow2 *q, uint64_t guest, uint8_t **ret, uint64_t *ret_left)
	must_check;
bool qcow2_has_table(const struct qcow2 *q, uint64_t guest);
/* A compressed cluster's place: bytes at *host. */
void qcow2_packed_place(
	const struct qcow2 *q, uint64_t entry, uint64_t *ret_host, uint64_t *ret_length);

/* What a part of a cluster is. */
enum qcow2_kind { QCOW2_K_HOLE, QCOW2_K_ZERO, QCOW2_K_DATA, QCOW2_K_PACKED };
/* i: the subcluster, or 0. -EIO with a message if the entry is not allowed. */
int qcow2_entry_kind(struct qcow2 *q, uint64_t guest, const uint8_t *entry, unsigned i) must_check;
uint64_t qcow2_entry_host(const struct qcow2 *q, uint64_t guest, uint64_t entry, bool *ret_has);

/* request.c */
void qcow2_request_begin(struct qcow2 *q, struct qcow2_request *r); /* takes the lock; keeps it */
/* Whether it would have to wait; under the lock. */
bool qcow2_request_blocked(const struct qcow2 *q, const struct qcow2_request *r);
void qcow2_request_wait(struct qcow2 *q);
void qcow2_request_add(struct qcow2 *q, struct qcow2_request *r);
void qcow2_request_end(struct qcow2 *q, struct qcow2_request *r); /* under the lock */

/* read.c */
int qcow2_map(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret) must_check;
int qcow2_read(struct disk *d, const struct iovec *iov, int n, uint64_t offset) must_check;
int qcow2_unpack(struct disk *d, uint64_t offset, void *buf, size_t len) must_check;

/* compress.c */
int qcow2_decompress(struct qcow2 *q, const uint8_t *in, size_t in_len, uint8_t *out) must_check;

/* write.c, zero.c */
int qcow2_write(struct disk *d, const struct iovec *iov, int n, uint64_t offset) must_check;
int qcow2_zero(struct disk *d, uint64_t offset, uint64_t length) must_check;
int qcow2_discard(struct disk *d, uint64_t offset, uint64_t length) must_check;
/* Before a guest's change: refuses damaged images, looks after bitmaps and the dirty bit. */
int qcow2_before_change(struct qcow2 *q, uint64_t offset, uint64_t length) must_check;

/* resize.c, check.c, bitmaps.c */
int qcow2_resize(struct disk *d, uint64_t size) must_check;
int qcow2_check(struct disk *d, struct disk_check *c) must_check;
int qcow2_bitmaps_touch(struct qcow2 *q, uint64_t offset, uint64_t length) must_check;
int qcow2_bitmaps_store(struct qcow2 *q) must_check;
void qcow2_bitmaps_release(struct qcow2 *q);
