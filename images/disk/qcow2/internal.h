/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares what the files of the qcow2 format share (versions 2 and 3; QEMU's docs/interop/qcow2).
 *
 * Theory of operation. The disk is cut into clusters. A guest's offset finds its cluster through
 * two levels of tables, L1 (whole in memory) and L2 (slices of 4 KiB in a cache). Refcount blocks
 * (slices in a second cache) count the references to each cluster of the file, and a refcount table
 * (whole in memory) locates the blocks.
 *
 * An image stays consistent after a crash because flush.c writes in this order: first data and
 * refcounts that grew; then L2 tables; then the L1 table; and only then refcounts that shrank. A
 * freed cluster goes on a list (`freed`), and is not used again before the tables are on the disk
 * without it. So a crash can only leave clusters that are counted but not used.
 *
 * Locking. `lock` guards the tables and caches; no data is read or written under it. A request that
 * changes tables first waits for other requests on the same clusters and registers its own clusters
 * (request.c); then it reads and writes data without the lock.
 */
#pragma once
#include <pthread.h>

#include "images/disk/format.h"
#include "images/disk/luks.h"
#include "images/disk/qcow2.h"

#define QCOW2_MAGIC 0x514649fbu
#define QCOW2_L1_MAX (32u << 20)     /* largest L1 table in bytes: QEMU's limit */
#define QCOW2_TABLE_MAX (8u << 20)   /* largest refcount table in bytes: QEMU's limit */
#define QCOW2_SNAPSHOTS_MAX 65536u   /* largest number of snapshots: QEMU's limit */
#define QCOW2_BITMAPS_MAX 65535u     /* largest number of bitmaps: QEMU's limit */
#define QCOW2_CRYPTO_MAX (16u << 20) /* largest LUKS header in bytes */
#define QCOW2_HEADER_V2 72
#define QCOW2_HEADER_V3 104
#define QCOW2_NAME_MAX 1023
#define QCOW2_SLICE 4096

/* Bits of the header field incompatible_features. */
#define QCOW2_DIRTY (1ull << 0)
#define QCOW2_CORRUPT (1ull << 1)
#define QCOW2_DATA_FILE (1ull << 2)
#define QCOW2_COMPRESSION (1ull << 3)
#define QCOW2_EXTENDED_L2 (1ull << 4)
#define QCOW2_INCOMPATIBLE_KNOWN 0x1full

/* Bits of the header fields compatible_features and autoclear_features. */
#define QCOW2_LAZY_REFCOUNTS (1ull << 0)
#define QCOW2_BITMAPS (1ull << 0)
#define QCOW2_RAW_DATA (1ull << 1)
#define QCOW2_AUTOCLEAR_KNOWN 0x3ull

/* Flags and masks of the entries of L1 and L2 tables. */
#define QCOW2_COPIED (1ull << 63)
#define QCOW2_PACKED (1ull << 62)
#define QCOW2_ZERO (1ull << 0)
#define QCOW2_OFFSET 0x00fffffffffffe00ull
#define QCOW2_L1_RESERVED (0x7full << 56 | 0x1ff)
#define QCOW2_L2_RESERVED (0x3full << 56 | 0x1fe)
/* bits of a refcount table entry that hold the offset of a refcount block */
#define QCOW2_TABLE_OFFSET 0xfffffffffffffe00ull
#define QCOW2_SUBCLUSTERS 32

/* Offsets of header fields that are updated alone, without writing the whole header. */
#define QCOW2_AT_SIZE 24
#define QCOW2_AT_L1 36 /* offset of the fields l1_size and l1_table_offset */
/* offset of the fields refcount_table_offset and refcount_table_clusters */
#define QCOW2_AT_TABLE 48
#define QCOW2_AT_SNAPSHOTS 60 /* offset of the fields nb_snapshots and snapshots_offset */
#define QCOW2_AT_INCOMPATIBLE 72
#define QCOW2_AT_AUTOCLEAR 88

/* Values of the header field crypt_method. */
#define QCOW2_CRYPT_AES 1u
#define QCOW2_CRYPT_LUKS 2u

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
	/*
	 * header fields behind compression_type, stored unchanged so that they can be written back
	 */
	uint8_t *additional;
	size_t additional_length;
	/*
	 * the names of files and of a format that the image contains; NULL: the image has no such
	 * name
	 */
	char *backing, *backing_format, *data_file;
	/* number of bitmaps; 0: there is no bitmaps extension */
	uint32_t bitmaps;
	uint64_t bitmaps_offset, bitmaps_size;
	/* place of the LUKS header in the file; a length of 0: there is none */
	uint64_t crypto_offset, crypto_length;
	struct strbuf features; /* the table of feature names, unchanged from the file */
	/*
	 * header extensions that this code does not know, unchanged, each with its type and length
	 * in front
	 */
	struct strbuf unknown;
};

/* A slot of a cache, which holds one slice of a table. */
struct qcow2_slot {
	uint64_t offset; /* offset of the slice in the file; 0: the slot is empty */
	uint32_t next;   /* index of the next slot with the same hash */
	bool dirty, used;
};

struct qcow2_cache {
	const char *what; /* name of what the cache holds, such as "L2 table", for error messages */
	size_t slice, n, hand, dirty;
	uint8_t *data;
	struct qcow2_slot *slots;
	uint32_t *heads;
	size_t mask;
};

/* A set of file offsets: a hash table with open addressing, in which 0 is an empty place. */
struct qcow2_set {
	uint64_t *v;
	size_t n, cap;
};

/*
 * A request that is being served, with its range of the disk. Other requests on the range may have
 * to wait for it.
 */
struct qcow2_request {
	uint64_t start, end;
	bool exclusive;
	struct qcow2_request *next;
};

struct qcow2_freed {
	uint64_t cluster, count;
};

struct qcow2_tracked_bitmap; /* bitmaps.c defines this structure */

struct qcow2 {
	struct disk *d;
	struct qcow2_header h;
	uint64_t cluster_size;
	unsigned l2_bits;     /* log2 of the number of entries in an L2 table */
	unsigned block_bits;  /* log2 of the number of refcounts in a refcount block */
	unsigned entry_size;  /* size of an L2 entry in bytes: 8, or 16 with subclusters */
	unsigned subclusters; /* number of subclusters in a cluster: 1 or 32 */
	uint64_t subcluster_size;
	int data_fd; /* file with the disk's data: the image itself, or its external data file */
	bool has_data_file;
	/* NULL: the data is not encrypted, or the image was opened without its key */
	struct luks *luks;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool lock_ready;
	struct qcow2_request *requests;

	uint64_t *l1; /* the L1 table, in the host's byte order */
	uint32_t l1_dirty_from, l1_dirty_to;
	uint64_t *table; /* all entries of the refcount table, in the host's byte order */
	uint32_t table_n, table_dirty_from, table_dirty_to;
	struct qcow2_cache l2, refs;
	/* offsets of L2 tables and refcount blocks, where no data may be written */
	struct qcow2_set tables;

	uint64_t hint; /* number of the first cluster that may be free */
	/* file offset from which on clusters were never used, so that they read as zeros */
	uint64_t fresh_from;
	/*
	 * file offset for the next compressed cluster; 0: the next compressed cluster needs a new
	 * cluster of the file
	 */
	uint64_t packed_at;
	struct qcow2_freed *freed;
	size_t freed_n, freed_cap;
	bool broken; /* whether a table is damaged, so that nothing is written any more */
	/*
	 * Whether the refcounts are written only when the image is closed. Until then the header
	 * has the dirty bit.
	 */
	bool lazy;
	bool marked; /* this process has set the dirty bit in the header */
	/*
	 * the bitmaps are taken care of: changes are recorded, or the bitmaps are declared invalid
	 */
	bool bitmaps_off;
	struct qcow2_tracked_bitmap *tracked;
	size_t tracked_n;

	pthread_mutex_t unpack_lock; /* guards the members from here to `generation` */
	uint64_t unpacked_entry, unpacked_generation;
	uint8_t *unpacked;
	uint64_t generation; /* incremented when compressed data is freed or written */
};

static inline struct qcow2 *qcow2_of(struct disk *d)
{
	return d->state;
}

static inline uint64_t qcow2_round_up(const struct qcow2 *q, uint64_t n)
{
	return (n + q->cluster_size - 1) & ~(q->cluster_size - 1);
}

/* --- header.c: reads the header --- */
int qcow2_header_read(struct disk *d, struct qcow2_header *h) must_check;
void qcow2_header_release(struct qcow2_header *h);

/* --- header_write.c: writes the header --- */
/*
 * Appends the header, its extensions and the backing file's name to *out, in the on-disk format.
 * All of these together take at most a cluster.
 */
int qcow2_header_format(struct disk *d, const struct qcow2_header *h, struct strbuf *out)
	must_check;
/*
 * Writes the whole header; single fields are written by qcow2_header_patch(). The caller must flush
 * the tables before and after this call.
 */
int qcow2_header_write(struct qcow2 *q) must_check;
/*
 * Writes `len` bytes of the header at offset `at`, and syncs the file before and after the write.
 */
int qcow2_header_patch(struct qcow2 *q, unsigned at, const void *bytes, size_t len) must_check;
int qcow2_mark_dirty(struct qcow2 *q, bool dirty) must_check;

/*
 * --- cache.c: caches slices of tables; the caller holds the lock. A pointer into a slice is valid
 * until the next call that gets another slice. ---
 */
int qcow2_cache_init(struct qcow2 *q, struct qcow2_cache *c, const char *what, size_t bytes)
	must_check;
void qcow2_cache_release(struct qcow2_cache *c);
int qcow2_cache_get(struct qcow2 *q, struct qcow2_cache *c, uint64_t offset, uint8_t **ret)
	must_check;
void qcow2_cache_dirty(struct qcow2_cache *c, const uint8_t *p);
/* Removes the slices that lie in a range of the file from the cache, without writing them. */
void qcow2_cache_forget(struct qcow2_cache *c, uint64_t offset, uint64_t length);
int qcow2_cache_write(struct qcow2 *q, struct qcow2_cache *c) must_check;

/* --- set.c: keeps a set of file offsets, for the protected tables --- */
/* Returns 1 if the offset is in the set already. */
int qcow2_set_add(struct qcow2_set *s, uint64_t offset) must_check;
bool qcow2_set_has(const struct qcow2_set *s, uint64_t offset);
void qcow2_set_remove(struct qcow2_set *s, uint64_t offset);
void qcow2_set_release(struct qcow2_set *s);

/* --- guard.c: protects tables against writes of data --- */
int qcow2_guard_build(struct qcow2 *q) must_check;
/*
 * Returns -EIO if the range holds tables or the header, because data must not be written there.
 * After such an error nothing is written to the image any more.
 */
int qcow2_guard(struct qcow2 *q, uint64_t host, uint64_t length, const char *what) must_check;
/*
 * Declares the image damaged: sets the error message and the corrupt bit in the header. Returns
 * -EIO.
 */
int qcow2_damaged(struct qcow2 *q, const char *fmt, ...) printf_like(2, 3);
/*
 * Refuses a change of an image that qcow2_damaged() has declared damaged. The message may be the
 * only one that the user sees, because of several threads any may be the first to fail.
 */
int qcow2_refuse_damaged(struct qcow2 *q) must_check;

/* --- refcount.c: reads and changes refcounts; the caller holds the lock --- */
int qcow2_ref_get(struct qcow2 *q, uint64_t cluster, uint64_t *ret) must_check;
int qcow2_ref_set(struct qcow2 *q, uint64_t cluster, uint64_t value) must_check;
int qcow2_ref_add(struct qcow2 *q, uint64_t cluster, int delta) must_check;
uint64_t qcow2_ref_max(const struct qcow2 *q);
void qcow2_ref_write_entry(unsigned order, uint8_t *block, uint64_t i, uint64_t value);

/* --- alloc.c: allocates and frees clusters of the file; the caller holds the lock --- */
/*
 * Allocates 1 to `want` neighbouring clusters, with a refcount of 1. Sets *ret_fresh if the
 * clusters are known to read as zeros.
 */
int qcow2_alloc(struct qcow2 *q, uint64_t want, uint64_t *ret_host, uint64_t *ret_n,
	bool *ret_fresh) must_check;
/* Allocates exactly n neighbouring clusters, for tables. */
int qcow2_alloc_table(struct qcow2 *q, uint64_t n, uint64_t *ret_host) must_check;
/*
 * Frees clusters that nothing refers to yet. If that fails, the clusters stay counted, which is
 * harmless.
 */
void qcow2_alloc_undo(struct qcow2 *q, uint64_t host, uint64_t n);
/*
 * Notes that the refcounts of n clusters have to be decreased. qcow2_free_apply() decreases them
 * once the tables that no longer refer to these clusters are on the disk.
 */
int qcow2_free_later(struct qcow2 *q, uint64_t host, uint64_t n) must_check;
/*
 * Notes, as qcow2_free_later() does, that the refcounts of the clusters that an L2 entry refers to
 * have to be decreased.
 */
int qcow2_free_entry(struct qcow2 *q, uint64_t entry) must_check;
int qcow2_free_apply(struct qcow2 *q) must_check;

/* --- flush.c: writes the tables in the right order; the caller holds the lock --- */
int qcow2_sync(struct qcow2 *q) must_check;
int qcow2_flush_tables(struct qcow2 *q) must_check;
/* Writes everything, including the decreased refcounts of freed clusters. */
int qcow2_flush_all(struct qcow2 *q) must_check;

/* --- tables.c: finds and interprets L2 entries; the caller holds the lock --- */
int qcow2_entry_get(struct qcow2 *q, uint64_t guest, uint8_t **ret, uint64_t *ret_left) must_check;
int qcow2_entry_for_write(struct qcow2 *q, uint64_t guest, uint8_t **ret, uint64_t *ret_left)
	must_check;
bool qcow2_has_table(const struct qcow2 *q, uint64_t guest);
/*
 * Decodes where the compressed cluster of an L2 entry is: *ret_length bytes at offset *ret_host of
 * the file.
 */
void qcow2_packed_place(
	const struct qcow2 *q, uint64_t entry, uint64_t *ret_host, uint64_t *ret_length);

/* What the image has for a cluster or a subcluster. */
enum qcow2_kind { QCOW2_K_HOLE, QCOW2_K_ZERO, QCOW2_K_DATA, QCOW2_K_PACKED };
/*
 * Returns the kind of subcluster i of the cluster at `guest` (i is 0 without subclusters), or -EIO
 * with a message if the entry is invalid.
 */
int qcow2_entry_kind(struct qcow2 *q, uint64_t guest, const uint8_t *entry, unsigned i) must_check;
uint64_t qcow2_entry_host(const struct qcow2 *q, uint64_t guest, uint64_t entry, bool *ret_has);

/* --- request.c: keeps requests apart that change the same clusters --- */
/*
 * Registers the request *r, after waiting until no other request excludes it. Takes q->lock, which
 * the caller has to release.
 */
void qcow2_request_begin(struct qcow2 *q, struct qcow2_request *r);
/* Returns whether the request has to wait for another request. The caller holds q->lock. */
bool qcow2_request_blocked(const struct qcow2 *q, const struct qcow2_request *r);
void qcow2_request_wait(struct qcow2 *q);
void qcow2_request_add(struct qcow2 *q, struct qcow2_request *r);
/* Ends a request, so that requests that wait for it can go on. The caller holds q->lock. */
void qcow2_request_end(struct qcow2 *q, struct qcow2_request *r);

/* --- read.c: maps and reads the disk --- */
int qcow2_map(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret) must_check;
int qcow2_read(struct disk *d, const struct iovec *iov, int n, uint64_t offset) must_check;
int qcow2_unpack(struct disk *d, uint64_t offset, void *buf, size_t len) must_check;

/* --- crypt.c: encrypts and decrypts data clusters --- */
/*
 * Unlocks an encrypted image with the key in the options. Does nothing if the image is not
 * encrypted, or if it is opened `alone` without a key.
 */
int qcow2_crypt_open(struct qcow2 *q, const struct disk_options *o) must_check;
int qcow2_decrypt(struct disk *d, const struct disk_extent *e, const struct iov_part *p) must_check;
/* Encrypts whole sectors at buf in place, as they are stored at offset `host` of the data file. */
int qcow2_encrypt(struct qcow2 *q, uint64_t host, uint8_t *buf, size_t len) must_check;
int qcow2_crypt_facts(struct qcow2 *q, struct disk_info *i) must_check;

/* --- compress.c: compresses and decompresses clusters --- */
int qcow2_decompress(struct qcow2 *q, const uint8_t *in, size_t in_len, uint8_t *out) must_check;

/* --- write.c, zero.c: write, zero and discard ranges of the disk --- */
int qcow2_write(struct disk *d, const struct iovec *iov, int n, uint64_t offset) must_check;
int qcow2_zero(struct disk *d, uint64_t offset, uint64_t length) must_check;
int qcow2_discard(struct disk *d, uint64_t offset, uint64_t length) must_check;
/*
 * Must be called before each change by the guest. Refuses the change if the image is damaged,
 * records it in bitmaps, and sets the dirty bit if refcounts are lazy.
 */
int qcow2_before_change(struct qcow2 *q, uint64_t offset, uint64_t length) must_check;

/*
 * --- resize.c, check.c, bitmaps.c: resize the disk, check the image, record writes in bitmaps ---
 */
int qcow2_resize(struct disk *d, uint64_t size) must_check;
int qcow2_check(struct disk *d, struct disk_check *c) must_check;
int qcow2_bitmaps_touch(struct qcow2 *q, uint64_t offset, uint64_t length) must_check;
int qcow2_bitmaps_store(struct qcow2 *q) must_check;
void qcow2_bitmaps_release(struct qcow2 *q);
