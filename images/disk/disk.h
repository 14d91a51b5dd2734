/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disk images of every format, behind one interface.
 *
 * Order of calls: disk_open() or, for an image that does not exist yet, the create function of its
 * format; then any of disk_read() to disk_map(); disk_flush(); disk_close(). The format is always
 * named by the caller, because a guest can write any bytes into a raw image, and so can make it
 * look like another format.
 *
 * Other files that an image names (a backing file, an extent, a data file) are opened only if the
 * caller gives a directory, and only beneath that directory.
 *
 * Threads: several threads may read, write, zero, discard, flush and map one open disk at a time.
 * Opening, closing, resizing and checking need the disk for themselves.
 *
 * Sizes and offsets are bytes, and need no alignment. All functions that return int follow
 * base/err.h: 0 or more, or -errno with a message that names the image.
 */
#pragma once
#include <stdint.h>
#include <sys/uio.h>

#include "base/arena.h"

struct disk;

/* A directory beneath which an image may name other files. */
struct disk_dir {
	int fd;           /* the directory, O_PATH will do; stays the caller's */
	const char *path; /* its absolute path, for absolute names in images; NULL: none accepted */
};

struct disk_options {
	const char *format;         /* required: one of disk_format_names() */
	const char *name;           /* required: what messages call the image, such as its path */
	bool write;                 /* the descriptor must be open for reading and writing */
	bool shared;                /* open although another process writes the image */
	bool unsafe;                /* nothing is synced: for an image that can be made again */
	bool alone;                 /* do not open the backing file: for info and check */
	bool ignore_dirty;          /* open what must be repaired first: for check */
	bool discard_zeroed;        /* zeroing gives clusters back instead of keeping them */
	const struct disk_dir *dir; /* NULL: the image may not name any other file */
	const char *path;           /* the image beneath dir; names are relative to its folder */
	const char *backing_format; /* for an image that names a backing file, but no format */
	size_t cache;               /* bytes for mapping tables; 0: 8 MiB */
	unsigned depth;             /* 0 for the caller; chains of backing files count up */
	const struct disk *above;   /* NULL for the caller; the image that names this one */
};

enum disk_extent_kind {
	DISK_HOLE,   /* not in this image: the backing file's bytes, or zeros without one */
	DISK_ZERO,   /* zeros, as this image says */
	DISK_DATA,   /* plain bytes at .host of .fd */
	DISK_PACKED, /* in this image, but only disk_read() gives the bytes: compressed */
};

#define DISK_NO_HOST UINT64_MAX

/* What an image has for a range of the disk. */
struct disk_extent {
	enum disk_extent_kind kind;
	uint64_t start, length; /* of the disk */
	uint64_t host;          /* offset in fd, or DISK_NO_HOST: DISK_DATA has it, DISK_ZERO may */
	int fd;                 /* belongs to the disk; -EBADF if host is DISK_NO_HOST */
};

/*
 * Opens the image that fd is, which from then on belongs to the disk, also if this fails. Takes the
 * locks that QEMU takes, so that two writers, or a writer and a reader, refuse each other.
 * An image that has a backing file fails with -EPERM if o->dir is NULL and o->alone is not set.
 */
int disk_open(struct disk **ret, int fd, const struct disk_options *o) must_check;

/*
 * Gives back all that the disk holds; NULL is allowed. Write errors are only seen by disk_flush(),
 * which the caller of a written disk calls before.
 */
void disk_close(struct disk *d);
void disk_closep(struct disk **d);
#define _cleanup_disk_ __attribute__((cleanup(disk_closep), unused))

uint64_t disk_size(const struct disk *d);
const char *disk_name(const struct disk *d);
bool disk_writable(const struct disk *d);
const char *disk_format_name(const struct disk *d);

/* The disk beneath, or NULL. */
struct disk *disk_backing(const struct disk *d);

/* What lies outside of the disk is -EINVAL. Success means that all of it was read or written. */
int disk_read(struct disk *d, void *buf, size_t len, uint64_t offset) must_check;
int disk_readv(struct disk *d, const struct iovec *iov, int n, uint64_t offset) must_check;
int disk_write(struct disk *d, const void *buf, size_t len, uint64_t offset) must_check;
int disk_writev(struct disk *d, const struct iovec *iov, int n, uint64_t offset) must_check;

/* Makes the range read as zeros. Where the format can say so, nothing is written. */
int disk_zero(struct disk *d, uint64_t offset, uint64_t length) must_check;

/*
 * Tells the disk that the bytes of the range are no longer needed. A format that supports this
 * frees the whole clusters in the range, which then read as zeros, and leaves the rest unchanged.
 * Other formats do nothing.
 */
int disk_discard(struct disk *d, uint64_t offset, uint64_t length) must_check;

/* What was written before is on stable storage afterwards, unless the disk was opened unsafe. */
int disk_flush(struct disk *d) must_check;

/* Changes the disk's size; what is new reads as zeros. Not all formats can. */
int disk_resize(struct disk *d, uint64_t size) must_check;

/*
 * What this image alone has at `offset`: an extent that starts there, is at least one byte and at
 * most `length` long. Neighbouring extents of one kind may come in pieces.
 */
int disk_map(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret) must_check;

/*
 * The same through the whole chain: *ret_depth is the number of images above the one that has the
 * range. DISK_HOLE: no image of the chain has it, so it reads as zeros.
 */
int disk_map_chain(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret,
	unsigned *ret_depth) must_check;

/* Facts for `info`: what all formats have, and a list of what only this one has. */
enum disk_fact_type { DISK_FACT_TEXT, DISK_FACT_NUMBER, DISK_FACT_BOOL };

struct disk_fact {
	struct disk_fact *next;
	const char *key; /* as qemu-img's JSON spells it: "compression-type" */
	enum disk_fact_type type;
	const char *text;
	uint64_t number; /* DISK_FACT_BOOL: 0 or 1 */
};

struct disk_info {
	struct arena arena; /* holds all texts */
	const char *format;
	uint64_t size;         /* of the disk */
	uint64_t used;         /* bytes of storage that the image takes */
	uint64_t cluster_size; /* 0: the format has none */
	const char *backing, *backing_format;
	bool dirty, corrupt, encrypted, compressed;
	struct disk_fact *facts, **facts_end;
};

void disk_info_release(struct disk_info *i);
#define _cleanup_disk_info_ __attribute__((cleanup(disk_info_release), unused))

int disk_get_info(struct disk *d, struct disk_info *ret) must_check;

/* What a check found. */
struct disk_check {
	uint64_t errors;         /* places where data is lost or would be */
	uint64_t leaks;          /* clusters that are taken and not used: harmless */
	uint64_t errors_fixed;   /* of the errors */
	uint64_t leaks_fixed;    /* of the leaks */
	uint64_t clusters;       /* of the disk */
	uint64_t used;           /* of the disk's clusters, those that the image has */
	uint64_t compressed;     /* of the used ones */
	uint64_t fragmented;     /* of the used ones: not right behind the one before */
	uint64_t end;            /* offset behind the last used cluster of the file */
	bool fix_leaks, fix_all; /* what to repair; the disk is open for writing then */
	void (*report)(void *data, const char *line); /* a fault; NULL: only count */
	void *data;
};

/* -EOPNOTSUPP: the format has nothing to check. */
int disk_run_check(struct disk *d, struct disk_check *c) must_check;

/* The name of format number i, in the order of the table, or NULL behind the last. */
const char *disk_format_names(size_t i);
