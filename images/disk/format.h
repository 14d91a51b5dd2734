/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Defines what a disk format consists of. The files that implement formats include this header;
 * users of disks do not.
 *
 * To add a format: write NAME.c with a `const struct disk_format format_NAME`, declare format_NAME
 * below, add it to the table in formats.c and the file to images/meson.build. A format that is only
 * read needs open(), map(), and close() if it keeps state; unpack() if it has compressed data;
 * info(). The common code in disk.c and io.c does the rest: it checks ranges, follows the backing
 * file, and reads the extents that map() returns.
 */
#pragma once
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "images/disk/disk.h"
#include "images/disk/lock.h"

/*
 * A part of an array of buffers. The part begins `skip` bytes behind the start of the first buffer.
 */
struct iov_part {
	const struct iovec *iov;
	int n;
	size_t skip; /* number of bytes of the first buffer that are not in the part */
};

struct disk_format {
	const char *name;
	bool can_write; /* whether a disk of this format can be opened for writing */

	/*
	 * Reads the image's headers, and sets d->size, and d->state for the format's own use. Has
	 * to check every number in the file before using it, because anyone may have made the file.
	 * If open() fails, close() is called, so close() has to handle an incomplete d->state and
	 * NULL.
	 */
	int (*open)(struct disk *d, const struct disk_options *o);
	void (*close)(struct disk *d);

	/*
	 * Implements disk_map(). The caller has checked that length is at least 1 and that the
	 * range is within the disk, and has set ret->fd to -EBADF and ret->host to DISK_NO_HOST.
	 * Several threads may call map() at a time.
	 */
	int (*map)(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret);

	/*
	 * Reads bytes from an extent that map() has called DISK_PACKED. All bytes of one call lie
	 * within one extent.
	 */
	int (*unpack)(struct disk *d, uint64_t offset, void *buf, size_t len);

	/*
	 * Reads and decrypts `e`, which is a part of an extent that map() has called
	 * DISK_ENCRYPTED, into the beginning of the buffers of *p. The member is NULL in a format
	 * without encryption.
	 */
	int (*decrypt)(struct disk *d, const struct disk_extent *e, const struct iov_part *p);

	/*
	 * The function pointers from here on may be NULL. If read() is set, it is called instead of
	 * map() and unpack(). The number of bytes to read is the sum of the lengths of the buffers
	 * in iov.
	 */
	int (*read)(struct disk *d, const struct iovec *iov, int n, uint64_t offset);
	int (*write)(struct disk *d, const struct iovec *iov, int n, uint64_t offset);
	int (*zero)(struct disk *d, uint64_t offset, uint64_t length);
	int (*discard)(struct disk *d, uint64_t offset, uint64_t length);
	int (*flush)(struct disk *d);
	int (*resize)(struct disk *d, uint64_t size);
	/* adds the facts of this format to *info, in which format, size and used are already set */
	int (*info)(struct disk *d, struct disk_info *info);
	int (*check)(struct disk *d, struct disk_check *c);
	/*
	 * Returns the descriptor of the open file number i that the image has besides its own, such
	 * as a data file or an extent, or -EBADF if that file is not open. If there is no such
	 * number, returns -ENOENT.
	 */
	int (*other_file)(const struct disk *d, size_t i);
};

struct disk {
	const struct disk_format *format;
	int fd;
	uint64_t size;
	bool write, unsafe, shared, alone, discard_zeroed;
	/* a sync of the file has failed, so the file may lack what was written before */
	atomic_bool sync_failed;
	unsigned depth;
	char *name;
	/* path of the image relative to the directory `dir`; NULL: the path is not known */
	char *path;
	/*
	 * the image whose backing file this disk is; set only while the chain of images is being
	 * opened
	 */
	const struct disk *above;
	const struct disk_dir *dir;
	struct disk *backing;
	void *state; /* private data of the format */
};

extern const struct disk_format format_raw;
extern const struct disk_format format_qcow2;
extern const struct disk_format format_vdi;
extern const struct disk_format format_vhdx;
extern const struct disk_format format_vmdk;
extern const struct disk_format format_vpc;

uint64_t iov_length(const struct iovec *iov, int n);

/* Moves the start of the part `len` bytes forward. */
void iov_part_skip(struct iov_part *p, size_t len);

/*
 * Copy the first `len` bytes of the part to buf (get), copy buf to these bytes (put), or set them
 * to zero (clear). The start of the part does not move.
 */
void iov_part_get(const struct iov_part *p, void *buf, size_t len);
void iov_part_put(const struct iov_part *p, const void *buf, size_t len);
void iov_part_clear(const struct iov_part *p, size_t len);

/*
 * Read `len` bytes from fd into the beginning of the part, or write the first `len` bytes of the
 * part to fd. Bytes behind the end of the file read as zeros.
 */
int iov_part_read(const struct iov_part *p, size_t len, int fd, uint64_t offset) must_check;
int iov_part_write(const struct iov_part *p, size_t len, int fd, uint64_t offset) must_check;

/*
 * Read or write all of a buffer. Bytes behind the end of the file read as zeros. The functions
 * return -errno without a message.
 */
int io_read(int fd, void *buf, size_t len, uint64_t offset) must_check;
int io_write(int fd, const void *buf, size_t len, uint64_t offset) must_check;

/*
 * Reads a table or a header of the image. A file that ends before the table does is an error.
 * `what` is the name of the table in error messages.
 */
int disk_read_meta(struct disk *d, void *buf, size_t len, uint64_t offset, const char *what)
	must_check;

/* Does what disk_read_meta() does, but reads from another file of the image (an extent). */
int disk_read_meta_of(struct disk *d, int fd, void *buf, size_t len, uint64_t offset,
	const char *what) must_check;

/*
 * Sets *ret to the size in bytes of the disk's file, which may be a regular file or a block device.
 * Returns -errno with a message.
 */
int disk_file_size(struct disk *d, uint64_t *ret) must_check;

/*
 * Opens a file that the image names, for reading, or for writing too if `write` is set and the disk
 * is open for writing. A relative name starts at the image's folder, and an absolute name must be
 * beneath d->dir->path. Other names are refused, and so are symbolic links that lead out of d->dir.
 * Sets *ret_path to the path beneath d->dir; the caller frees this path.
 */
int disk_open_named(struct disk *d, const char *what, const char *name, bool write, char **ret_path)
	must_check;

/*
 * Opens the backing file as d->backing, unless o->alone or o->below says otherwise; o->chain undoes
 * o->alone. `format` is NULL if the image does not say its format.
 */
int disk_open_backing(struct disk *d, const struct disk_options *o, const char *name,
	const char *format) must_check;

/*
 * Opens the backing file as a disk of its own in *ret, for writing if o->write is set. The options
 * `shared` and `cache` hold for that disk too.
 */
int disk_open_below(struct disk *d, const struct disk_options *o, const char *name,
	const char *format, struct disk **ret) must_check;

/*
 * Reads by the extents that the format's map() returns. disk_readv() uses this for formats without
 * a read function.
 */
int disk_read_mapped(struct disk *d, const struct iovec *iov, int n, uint64_t offset) must_check;

/*
 * Reads `len` bytes from the backing file. Behind the end of the backing file, or if there is none,
 * the bytes are zeros.
 */
int disk_read_below(struct disk *d, const struct iov_part *p, size_t len, uint64_t offset)
	must_check;

/*
 * Makes what was written to `fd`, a file of the disk, durable, unless the disk is `unsafe`. `what`
 * is the file's name in an error message. After its first failure the function fails each time,
 * because the kernel may have dropped what it could not write. The error is -EIO whatever the
 * reason was, so that no caller tries again when the host has space again.
 */
int disk_sync(struct disk *d, int fd, const char *what) must_check;

/* Sets the error message "NAME: text" for this image and returns -code. */
#define disk_err(d, code, fmt, ...) err_set(code, "%s: " fmt, (d)->name, ##__VA_ARGS__)

int disk_fact_text(struct disk_info *i, const char *key, const char *text) must_check;
int disk_fact_number(struct disk_info *i, const char *key, uint64_t number) must_check;
int disk_fact_bool(struct disk_info *i, const char *key, bool value) must_check;
/* Begin an object or an array of facts, or end the object or array that was begun last. */
int disk_fact_begin(struct disk_info *i, const char *key, enum disk_fact_type type) must_check;
int disk_fact_end(struct disk_info *i) must_check;

/* Returns whether `length` bytes from the offset `at` on lie within a file of file_size bytes. */
static inline bool disk_inside(uint64_t at, uint64_t length, uint64_t file_size)
{
	return at <= file_size && length <= file_size - at;
}

/* Returns how many blocks of the given number of bytes the disk has. */
static inline uint64_t disk_block_count(const struct disk *d, uint64_t block_size)
{
	return d->size / block_size + (d->size % block_size != 0);
}

/*
 * Returns how many bytes of the disk the block has: for the last block it may be fewer than
 * block_size, and for a block behind the disk's end it is 0.
 */
static inline uint64_t disk_block_bytes(const struct disk *d, uint64_t block, uint64_t block_size)
{
	uint64_t start = block * block_size;

	if (start >= d->size)
		return 0;
	return d->size - start < block_size ? d->size - start : block_size;
}

/* --- read and write big-endian and little-endian numbers of a file --- */
static inline uint16_t be16(const void *p)
{
	const uint8_t *b = p;
	return (uint16_t)(b[0] << 8 | b[1]);
}

static inline uint32_t be32(const void *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof(v));
	return __builtin_bswap32(v);
}

static inline uint64_t be64(const void *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof(v));
	return __builtin_bswap64(v);
}

static inline void put_be16(void *p, uint16_t v)
{
	uint8_t *b = p;
	b[0] = (uint8_t)(v >> 8);
	b[1] = (uint8_t)v;
}

static inline void put_be32(void *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void put_be64(void *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, sizeof(v));
}

static inline uint16_t le16(const void *p)
{
	const uint8_t *b = p;
	return (uint16_t)(b[1] << 8 | b[0]);
}

static inline uint32_t le32(const void *p)
{
	const uint8_t *b = p;
	return (uint32_t)le16(b) | (uint32_t)le16(b + 2) << 16;
}

static inline uint64_t le64(const void *p)
{
	const uint8_t *b = p;
	return (uint64_t)le32(b) | (uint64_t)le32(b + 4) << 32;
}
