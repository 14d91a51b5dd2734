/* SPDX-License-Identifier: Apache-2.0 */
/* qcow2: what it has beyond images/disk/disk.h. Disks given here are open qcow2 images. */
#pragma once
#include "images/disk/disk.h"

enum qcow2_compression { QCOW2_ZLIB, QCOW2_ZSTD };
enum qcow2_preallocation {
	QCOW2_PREALLOC_OFF,
	QCOW2_PREALLOC_METADATA, /* the tables are made, and the file's clusters taken */
	QCOW2_PREALLOC_FALLOC,   /* and their storage reserved */
	QCOW2_PREALLOC_FULL,     /* and zeros written */
};

struct qcow2_create {
	const char *name; /* for messages */
	uint64_t size;
	unsigned version;       /* 2 or 3 */
	uint64_t cluster_size;  /* a power of two from 512 to 2 MiB; 0: 64 KiB */
	unsigned refcount_bits; /* 1, 2, 4 … 64; 0: 16 */
	const char *backing;    /* as it is to stand in the image; NULL: none */
	const char *backing_format;
	const char *data_file; /* name of an external data file, likewise */
	bool data_file_raw, lazy_refcounts, extended_l2;
	enum qcow2_compression compression;
	enum qcow2_preallocation preallocation;
};

/* Writes an empty image into a file, whose content is lost; fd stays the caller's. */
int qcow2_create(int fd, const struct qcow2_create *c) must_check;

/* Takes the clusters of the whole disk, as the image was created to have them. */
int qcow2_preallocate(struct disk *d, enum qcow2_preallocation how) must_check;

uint64_t qcow2_cluster_size(struct disk *d);
/* The unit that data is allocated in: a cluster, or a subcluster. */
uint64_t qcow2_subcluster_size(struct disk *d);
enum qcow2_compression qcow2_compression_of(struct disk *d);

/*
 * A cluster in compressed form; offset is a multiple of the cluster size. qcow2_compress() may be
 * called by several threads. It returns the length, or 0 if the cluster does not get smaller, and
 * is to be written as it is. out has room for a cluster.
 */
struct qcow2_packer;
int qcow2_packer_new(struct disk *d, struct qcow2_packer **ret) must_check;
void qcow2_packer_free(struct qcow2_packer *p);
int qcow2_compress(struct qcow2_packer *p, const void *in, void *out, size_t *ret_len) must_check;
int qcow2_write_packed(struct disk *d, uint64_t offset, const void *data, size_t len) must_check;

/* The names that the image carries, or NULL. */
const char *qcow2_backing_name(struct disk *d);
const char *qcow2_backing_format(struct disk *d);
/* Opens the backing file of an image that was opened alone, also for writing: see disk_options. */
int qcow2_open_below(struct disk *d, const struct disk_options *o, struct disk **ret) must_check;
/* Gives the image another backing file, or with NULL none; its data stays as it is. */
int qcow2_set_backing(struct disk *d, const char *name, const char *format) must_check;

/* Gives back all clusters: the disk reads as its backing file. Refused with internal snapshots. */
int qcow2_make_empty(struct disk *d) must_check;

struct qcow2_snapshot {
	char *id, *name;
	uint64_t l1_offset, vm_state_size, disk_size, vm_clock_ns, icount;
	uint32_t l1_size, seconds, nanoseconds;
	uint16_t id_length, name_length; /* as in the file, where a NUL may be in the texts */
	bool has_icount;
	void *extra; /* the extra data as it is in the file */
	size_t extra_length;
};

struct qcow2_snapshots {
	struct qcow2_snapshot *v;
	size_t n;
};

void qcow2_snapshots_release(struct qcow2_snapshots *s);
#define _cleanup_snapshots_ __attribute__((cleanup(qcow2_snapshots_release), unused))
int qcow2_snapshots_read(struct disk *d, struct qcow2_snapshots *ret) must_check;
/* what: an id, or else a name. Taking: the name. The disk is flushed. */
int qcow2_snapshot_create(struct disk *d, const char *name) must_check;
int qcow2_snapshot_apply(struct disk *d, const char *what) must_check;
int qcow2_snapshot_delete(struct disk *d, const char *what) must_check;
/* From now on the disk, which is only read, is what the snapshot was. */
int qcow2_use_snapshot(struct disk *d, const char *what) must_check;
