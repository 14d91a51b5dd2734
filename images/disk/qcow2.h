/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares what only qcow2 images have, besides the interface of images/disk/disk.h. Every disk
 * that a caller passes to these functions must be an open qcow2 image.
 */
#pragma once
#include "images/disk/disk.h"
#include "images/disk/luks_create.h"

enum qcow2_compression { QCOW2_ZLIB, QCOW2_ZSTD };
enum qcow2_preallocation {
	QCOW2_PREALLOC_OFF,
	/* make the tables and assign a cluster of the file to each cluster of the disk */
	QCOW2_PREALLOC_METADATA,
	/* do what QCOW2_PREALLOC_METADATA does, and also reserve storage for the clusters */
	QCOW2_PREALLOC_FALLOC,
	/* do what QCOW2_PREALLOC_METADATA does, and also write zeros to the clusters */
	QCOW2_PREALLOC_FULL,
};

struct qcow2_create {
	const char *name; /* name of the image, which error messages use */
	uint64_t size;
	unsigned version; /* format version, 2 or 3 */
	/* bytes of a cluster, a power of two from 512 to 2 MiB; 0 means the default, 64 KiB */
	uint64_t cluster_size;
	/* size of a refcount in bits: 1, 2, 4, 8, 16, 32 or 64; 0 means the default, 16 */
	unsigned refcount_bits;
	/* name of the backing file, which is written into the image as it is; NULL: none */
	const char *backing;
	const char *backing_format;
	/* name of an external data file, which is written into the image as it is; NULL: none */
	const char *data_file;
	bool data_file_raw, lazy_refcounts, extended_l2;
	enum qcow2_compression compression;
	enum qcow2_preallocation preallocation;
	const struct luks_create *encrypt; /* how the image is encrypted; NULL: not at all */
};

/* Writes an empty image into the file `fd`, whose former content is lost. The caller closes fd. */
int qcow2_create(int fd, const struct qcow2_create *c) must_check;

/*
 * Allocates all clusters of a new disk in the way that `how` says. Ends with -EINTR at a signal of
 * the signalfd `interrupt` of base/interrupt.h; -EBADF: there is none.
 */
int qcow2_preallocate(struct disk *d, enum qcow2_preallocation how, int interrupt) must_check;

uint64_t qcow2_cluster_size(struct disk *d);
/*
 * Returns the unit in which data is allocated: the size of a cluster or, if the image has
 * subclusters, of a subcluster.
 */
uint64_t qcow2_subcluster_size(struct disk *d);
enum qcow2_compression qcow2_compression_of(struct disk *d);

/*
 * Compresses single clusters. Several threads may call qcow2_compress() at a time; it returns the
 * length of the compressed data, or 0 if the data would not become smaller than the cluster and has
 * to be written uncompressed. `out` must have room for a cluster, and `offset` be a multiple of the
 * cluster size.
 */
struct qcow2_packer;
int qcow2_packer_new(struct disk *d, struct qcow2_packer **ret) must_check;
void qcow2_packer_free(struct qcow2_packer *p);
int qcow2_compress(struct qcow2_packer *p, const void *in, void *out, size_t *ret_len) must_check;
int qcow2_write_packed(struct disk *d, uint64_t offset, const void *data, size_t len) must_check;

/*
 * Returns an error if the image is encrypted and was opened with the option `alone` and without its
 * key, so that its data can neither be read nor written.
 */
int qcow2_need_key(struct disk *d) must_check;

/*
 * Opens the backing file of an image that was itself opened with the option `alone`. Opens the
 * backing file for writing if the options say so.
 */
int qcow2_open_below(struct disk *d, const struct disk_options *o, struct disk **ret) must_check;
/*
 * Writes the name of another backing file into the image, or removes the name if `name` is NULL.
 * Keeps the image's own data unchanged.
 */
int qcow2_set_backing(struct disk *d, const char *name, const char *format) must_check;

/*
 * Frees all clusters, so that the disk reads like its backing file. Fails if the image has internal
 * snapshots.
 */
int qcow2_make_empty(struct disk *d) must_check;

struct qcow2_snapshot {
	char *id, *name;
	uint64_t l1_offset, vm_state_size, disk_size, vm_clock_ns, icount;
	uint32_t l1_size, seconds, nanoseconds;
	/*
	 * lengths of `id` and `name` in the file, which are needed because the texts may contain
	 * NUL bytes
	 */
	uint16_t id_length, name_length;
	bool has_icount;
	void *extra; /* the snapshot's extra data, unchanged from the file */
	size_t extra_length;
};

struct qcow2_snapshots {
	struct qcow2_snapshot *v;
	size_t n;
};

void qcow2_snapshots_release(struct qcow2_snapshots *s);
#define _cleanup_snapshots_ __attribute__((cleanup(qcow2_snapshots_release), unused))
int qcow2_snapshots_read(struct disk *d, struct qcow2_snapshots *ret) must_check;
/*
 * Make, apply or delete an internal snapshot, and flush the disk. A new snapshot gets the name
 * `name`. `what` selects an existing snapshot by its id, or by its name if no id matches.
 */
int qcow2_snapshot_create(struct disk *d, const char *name) must_check;
int qcow2_snapshot_apply(struct disk *d, const char *what) must_check;
int qcow2_snapshot_delete(struct disk *d, const char *what) must_check;
/* Makes the disk, which must be open only for reading, show the content of the snapshot. */
int qcow2_use_snapshot(struct disk *d, const char *what) must_check;
