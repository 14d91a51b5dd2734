/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a disk format is made of: for the files that implement one, not for users of disks.
 *
 * To add a format: write NAME.c with a `const struct disk_format format_NAME`, declare it below,
 * add it to the table in formats.c and the file to images/meson.build. A format that is only read
 * needs open(), map(), and close() if it keeps state; unpack() if it has compressed data; info().
 * The common code in disk.c and io.c does the rest: it checks ranges, follows the backing file,
 * reads what map() says.
 */
#pragma once
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "images/disk/disk.h"

struct disk_format {
	const char *name;
	bool can_write; /* else a disk that is to be written is refused */

	/*
	 * Reads the headers: sets d->size, and d->state for its own use. Has to check every number
	 * in the file before it uses it, because the file may come from anyone. On failure close()
	 * is called too, so it must cope with a half-made state, also with d->state NULL.
	 */
	int (*open)(struct disk *d, const struct disk_options *o);
	void (*close)(struct disk *d);

	/*
	 * disk_map(): length is at least 1, and the range within the disk. May be called by several
	 * threads at a time. fd and host are set already to "none".
	 */
	int (*map)(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret);

	/* Reads bytes that lie within one extent that map() called DISK_PACKED. */
	int (*unpack)(struct disk *d, uint64_t offset, void *buf, size_t len);

	/* The rest may be NULL. read: instead of map() and unpack(). length: the sum of iov. */
	int (*read)(struct disk *d, const struct iovec *iov, int n, uint64_t offset);
	int (*write)(struct disk *d, const struct iovec *iov, int n, uint64_t offset);
	int (*zero)(struct disk *d, uint64_t offset, uint64_t length);
	int (*discard)(struct disk *d, uint64_t offset, uint64_t length);
	int (*flush)(struct disk *d);
	int (*resize)(struct disk *d, uint64_t size);
	int (*info)(struct disk *d, struct disk_info *info); /* format, size and used are set */
	int (*check)(struct disk *d, struct disk_check *c);
};

struct disk {
	const struct disk_format *format;
	int fd;
	uint64_t size;
	bool write, unsafe, shared, alone, discard_zeroed;
	unsigned depth;
	char *name;
	char *path;               /* beneath dir; NULL: not known */
	const struct disk *above; /* the image that names this one as its backing file */
	const struct disk_dir *dir;
	struct disk *backing;
	void *state; /* the format's */
};

extern const struct disk_format format_raw;
extern const struct disk_format format_qcow2;

/* A part of an array of buffers: `length` bytes from `skip` on. */
struct iov_part {
	const struct iovec *iov;
	int n;
	size_t skip; /* bytes of the first buffer that come before the part */
};

uint64_t iov_length(const struct iovec *iov, int n);

/* Moves the part's beginning on by len bytes. */
void iov_part_skip(struct iov_part *p, size_t len);

/* Copies the first len bytes of the part to buf, or buf to them, or zeros; does not move it. */
void iov_part_get(const struct iov_part *p, void *buf, size_t len);
void iov_part_put(const struct iov_part *p, const void *buf, size_t len);
void iov_part_clear(const struct iov_part *p, size_t len);

/* Reads the part's first len bytes from fd. What lies behind the end of the file is zeros. */
int iov_part_read(const struct iov_part *p, size_t len, int fd, uint64_t offset) must_check;
int iov_part_write(const struct iov_part *p, size_t len, int fd, uint64_t offset) must_check;

/* Plain buffers: whole reads (zeros behind the end of the file) and whole writes; no message. */
int io_read(int fd, void *buf, size_t len, uint64_t offset) must_check;
int io_write(int fd, const void *buf, size_t len, uint64_t offset) must_check;

/* Reads a table or header: a file that ends before it is an error, with a message. */
int disk_read_meta(struct disk *d, void *buf, size_t len, uint64_t offset, const char *what)
	must_check;

/* The bytes of a regular file or block device; -errno with a message. */
int disk_file_size(struct disk *d, uint64_t *ret) must_check;

/*
 * Opens a file that the image names, read-only or with the disk's own access. A relative name
 * starts at the image's folder, an absolute one has to be beneath dir->path; all else, symbolic
 * links out of the directory too, is refused. *ret_path: the path beneath dir, to be freed.
 */
int disk_open_named(struct disk *d, const char *what, const char *name, bool write, char **ret_path)
	must_check;

/* Opens the backing file, if the options allow it, as d->backing. format NULL: not said. */
int disk_open_backing(struct disk *d, const struct disk_options *o, const char *name,
	const char *format) must_check;

/* The same as a disk of its own, for writing if o->write is set; of o also shared and cache. */
int disk_open_below(struct disk *d, const struct disk_options *o, const char *name,
	const char *format, struct disk **ret) must_check;

/* Reads what map() says, as disk_readv() does for formats without a read function. */
int disk_read_mapped(struct disk *d, const struct iovec *iov, int n, uint64_t offset) must_check;

/* Reads through the layers below: d->backing's bytes, zeros where it has none or ends. */
int disk_read_below(struct disk *d, const struct iov_part *p, size_t len, uint64_t offset)
	must_check;

/* The locks of QEMU's file driver on a descriptor. They go with the descriptor. */
int disk_lock(int fd, const char *name, bool write, bool shared) must_check;

/* A warning or an error of this image: "NAME: text". */
#define disk_err(d, code, fmt, ...) err_set(code, "%s: " fmt, (d)->name, ##__VA_ARGS__)

int disk_fact_text(struct disk_info *i, const char *key, const char *text) must_check;
int disk_fact_number(struct disk_info *i, const char *key, uint64_t number) must_check;
int disk_fact_bool(struct disk_info *i, const char *key, bool value) must_check;

/* Numbers in files. */
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
