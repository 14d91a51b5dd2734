/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens, reads and writes disk images of all formats by one interface.
 *
 * Order of calls: disk_open() or, for an image that does not exist yet, the create function of its
 * format; then any of disk_read() to disk_map(); disk_flush(); disk_close(). The caller always
 * names the format. The format is never detected from the content, because a guest can write any
 * bytes into a raw image and make it look like another format.
 *
 * Other files that an image names (a backing file, an extent, a data file) are opened only if the
 * caller gives a directory, and only beneath that directory.
 *
 * Threads: several threads may read, write, zero, discard, flush and map one open disk at a time.
 * No other call may run while a disk is opened, closed, resized or checked.
 *
 * Sizes and offsets are in bytes and need no alignment. All functions that return int follow
 * base/err.h: they return 0 or more, or -errno with a message that names the image.
 */
#pragma once
#include <stdint.h>
#include <sys/uio.h>

#include "base/arena.h"

struct disk;

/*
 * A directory of the host. An image may name other files (such as its backing file) only if these
 * lie beneath the directory.
 */
struct disk_dir {
	/* descriptor of the directory, which may be O_PATH; the caller closes it */
	int fd;
	/*
	 * absolute path of the directory, by which absolute names in images are recognized; NULL:
	 * absolute names are refused
	 */
	const char *path;
};

/* The passphrase of encrypted images. The caller keeps the bytes, and wipes them. */
struct disk_key {
	const uint8_t *bytes;
	size_t len;
};

struct disk_options {
	const char *format; /* name of the format, one that disk_format_names() returns; required */
	const char *name;   /* name of the image in messages, such as its path; required */
	/* open the disk for writing; the descriptor must then allow reading and writing */
	bool write;
	bool shared; /* open the image even if another process is writing it */
	/* never sync the file; for an image that the caller can make anew after a crash */
	bool unsafe;
	/* open no other file that the image names; `caisson disk info` and `check` set this */
	bool alone;
	/*
	 * open the backing files in spite of `alone`, and each of them `alone` too, because only
	 * the facts about the images of the chain are wanted; `caisson disk info` sets this
	 */
	bool chain;
	/* open an image even if it has to be repaired; `caisson disk check` sets this */
	bool ignore_dirty;
	bool discard_zeroed; /* disk_zero() frees clusters instead of keeping them */
	/*
	 * directory beneath which the image may name other files; NULL: the image may name no other
	 * file
	 */
	const struct disk_dir *dir;
	/* path of the image beneath `dir`; relative names in the image start at its folder */
	const char *path;
	const char *backing_format; /* format of the backing file if the image does not say it */
	/*
	 * passphrase of the image and of its backing files, as far as they are encrypted; NULL:
	 * encrypted images can only be opened `alone`, and their data cannot be read
	 */
	const struct disk_key *key;
	size_t cache; /* size of the cache for mapping tables in bytes; 0: 8 MiB */
	/* number of images above this image in the chain of backing files; callers set 0 */
	unsigned depth;
	/* the image whose backing file is being opened; callers set NULL */
	const struct disk *above;
	/*
	 * an open disk that is used in place of the backing file that the image names; the new disk
	 * owns `below` once disk_open() has succeeded
	 */
	struct disk *below;
};

enum disk_extent_kind {
	/*
	 * the image has no data for the extent: reads return the backing file's bytes, or zeros
	 * without a backing file
	 */
	DISK_HOLE,
	DISK_ZERO, /* the image says that the extent's bytes are zeros */
	DISK_DATA, /* the image has the extent's bytes, plain, in file `fd` at offset `host` */
	/* the image has the extent's bytes compressed, so that only disk_read() can return them */
	DISK_PACKED,
	/*
	 * the image has the extent's bytes encrypted, in file `fd` at offset `host`; only
	 * disk_read() can decrypt them
	 */
	DISK_ENCRYPTED,
};

#define DISK_NO_HOST UINT64_MAX

/* A range of the disk, and what an image has for this range. */
struct disk_extent {
	enum disk_extent_kind kind;
	uint64_t start, length; /* first byte and number of bytes of the range, on the disk */
	/*
	 * offset of the bytes in `fd`, or DISK_NO_HOST; DISK_DATA and DISK_ENCRYPTED always have an
	 * offset, DISK_ZERO may have one
	 */
	uint64_t host;
	/* file with the bytes, which the disk closes; -EBADF if `host` is DISK_NO_HOST */
	int fd;
};

/*
 * Opens the image in file `fd`. The disk owns fd from then on, even if the call fails. Takes the
 * same locks as QEMU, so that a second writer, or a reader beside a writer, gets an error. Returns
 * -EPERM if the image has a backing file but o->dir is NULL and o->alone is not set.
 */
int disk_open(struct disk **ret, int fd, const struct disk_options *o) must_check;

/*
 * Closes the disk and frees it; does nothing if d is NULL. Does not report write errors, so a
 * caller that has written must call disk_flush() before.
 */
void disk_close(struct disk *d);
void disk_closep(struct disk **d);
#define _cleanup_disk_ __attribute__((cleanup(disk_closep), unused))

uint64_t disk_size(const struct disk *d);
const char *disk_name(const struct disk *d);
bool disk_writable(const struct disk *d);
const char *disk_format_name(const struct disk *d);

/* Returns the disk of the backing file, or NULL if there is none. */
struct disk *disk_backing(const struct disk *d);

/*
 * Reserves storage for the first `size` bytes of a file, which has the name `name` in error
 * messages. Ends with -EINTR at a signal of the signalfd `interrupt` of base/interrupt.h; -EBADF:
 * there is none.
 */
int disk_reserve(int fd, const char *name, uint64_t size, int interrupt) must_check;

/* Says whether the file at `path` is that of the descriptor fd. -EBADF is no file. */
bool disk_is_file(int fd, const char *path);

/*
 * Says whether the file at `path` is a file of this disk or of one of its backing files: the image,
 * its external data file or one of its extents. If there is no file at `path`, it is none of these.
 */
bool disk_has_file(const struct disk *d, const char *path);

/*
 * Read or write `len` bytes at `offset`. If the range reaches beyond the disk's end, the functions
 * return -EINVAL. Success means that all bytes were read or written.
 */
int disk_read(struct disk *d, void *buf, size_t len, uint64_t offset) must_check;
int disk_readv(struct disk *d, const struct iovec *iov, int n, uint64_t offset) must_check;
int disk_write(struct disk *d, const void *buf, size_t len, uint64_t offset) must_check;
int disk_writev(struct disk *d, const struct iovec *iov, int n, uint64_t offset) must_check;

/*
 * Makes the range read as zeros. If the format can mark zeros in its tables, no zeros are written
 * to the file.
 */
int disk_zero(struct disk *d, uint64_t offset, uint64_t length) must_check;

/*
 * Tells the disk that the bytes of the range are no longer needed. A format that can discard frees
 * the whole clusters in the range, which then read as zeros, and leaves the rest unchanged. Other
 * formats do nothing.
 */
int disk_discard(struct disk *d, uint64_t offset, uint64_t length) must_check;

/* Makes all earlier writes durable on stable storage, unless the disk was opened with `unsafe`. */
int disk_flush(struct disk *d) must_check;

/*
 * Changes the disk's size. The added part reads as zeros. A format whose images cannot change their
 * size returns -EOPNOTSUPP.
 */
int disk_resize(struct disk *d, uint64_t size) must_check;

/*
 * Reports what this image, without its backing files, has at `offset`. *ret is an extent that
 * begins at `offset` and has 1 to `length` bytes. Neighbouring extents may be of the same kind.
 */
int disk_map(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret) must_check;

/*
 * Reports what the chain of images has at `offset`. *ret is an extent as disk_map() returns it, and
 * *ret_depth the number of images above the image that has the extent. DISK_HOLE means that no
 * image of the chain has data there, so the extent reads as zeros.
 */
int disk_map_chain(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret,
	unsigned *ret_depth) must_check;

/*
 * The facts about an image that `caisson disk info` prints: members that all formats have, and a
 * list of facts that only one format has.
 */
enum disk_fact_type {
	DISK_FACT_TEXT,
	DISK_FACT_NUMBER,
	DISK_FACT_BOOL,
	/* the facts up to the DISK_FACT_END belong together: members of an object or of an array */
	DISK_FACT_OBJECT,
	DISK_FACT_ARRAY,
	DISK_FACT_END,
};

struct disk_fact {
	struct disk_fact *next;
	/* name of the fact as in qemu-img's JSON, such as "compression-type"; NULL in an array */
	const char *key;
	enum disk_fact_type type;
	const char *text;
	uint64_t number; /* value of a number; of a DISK_FACT_BOOL the value is 0 or 1 */
};

struct disk_info {
	struct arena arena; /* memory in which all texts of the facts are */
	const char *format;
	uint64_t size;         /* size of the disk in bytes */
	uint64_t used;         /* bytes of storage that the image takes on the host */
	uint64_t cluster_size; /* bytes of a cluster; 0: the format has no clusters */
	const char *backing, *backing_format;
	bool dirty, corrupt, encrypted, compressed;
	struct disk_fact *facts, **facts_end;
};

void disk_info_release(struct disk_info *i);
#define _cleanup_disk_info_ __attribute__((cleanup(disk_info_release), unused))

int disk_get_info(struct disk *d, struct disk_info *ret) must_check;

/* The options and the results of a check of an image. */
struct disk_check {
	uint64_t errors; /* number of places where data is lost or would be lost */
	/* number of clusters that are marked as used and are not; harmless */
	uint64_t leaks;
	uint64_t errors_fixed; /* number of errors that were repaired */
	uint64_t leaks_fixed;  /* number of leaks that were repaired */
	uint64_t clusters;     /* number of clusters that the disk has */
	uint64_t used;         /* number of the disk's clusters that the image has data for */
	uint64_t compressed;   /* how many of the used clusters are compressed */
	/*
	 * how many of the used clusters do not follow, in the file, the cluster that precedes them
	 * on the disk
	 */
	uint64_t fragmented;
	uint64_t end; /* offset in the file behind its last used cluster */
	/* whether leaks, or all faults, are repaired; the disk must be open for writing */
	bool fix_leaks, fix_all;
	/* called for each fault with a text; NULL: faults are only counted */
	void (*report)(void *data, const char *line);
	void *data;
};

/*
 * Checks the image, and repairs it if c->fix_leaks or c->fix_all is set. Returns -EOPNOTSUPP if the
 * format has nothing to check.
 */
int disk_run_check(struct disk *d, struct disk_check *c) must_check;

/* Returns the name of format number i, or NULL if i is too large. */
const char *disk_format_names(size_t i);
