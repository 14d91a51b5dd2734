/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a layer's tar: ustar, GNU and PAX headers, the old and the PAX forms of sparse files.
 *
 * Layers are written by Go programs and read by Go programs, so this reader sees the entries that
 * Go's archive/tar sees: a PAX size always wins over the header's; links, directories, devices and
 * FIFOs have no data, whatever their size says; a type 0 whose name ends in a slash is a
 * directory. Two readers that disagree on where an entry ends see two images in one layer, so
 * everything that is malformed is an error, never passed over: a PAX record, a checksum, a number,
 * bytes behind the end.
 *
 * Order of calls: tar_init(), then tar_next() until it returns 0; after a file's entry, tar_data()
 * until it returns 0 (tar_next() passes over what was not read). tar_release() at the end.
 */
#pragma once
#include <sys/types.h>
#include <time.h>

#include "images/oci/stream.h"

#define TAR_NAME_MAX 4096u /* bytes of a name or a link's target, with its NUL (PATH_MAX) */
#define TAR_EXTENDED_MAX (1u << 20) /* bytes of the PAX records of one entry */
#define TAR_XATTRS_MAX 1024u        /* of one entry */
#define TAR_SPARSE_MAX 262144u      /* pieces of one file */

enum tar_type { TAR_FILE, TAR_HARDLINK, TAR_SYMLINK, TAR_CHAR, TAR_BLOCK, TAR_DIR, TAR_FIFO };

struct tar_xattr {
	const char *name; /* with its namespace: "user.x" */
	const void *value;
	size_t len;
};

struct tar_entry {
	enum tar_type type;
	const char *name; /* as it is in the tar, without the slashes at its end */
	const char *link; /* a link's target, else "" */
	mode_t mode;      /* the twelve lower bits */
	uint64_t uid, gid;
	struct timespec mtime;
	uint32_t major, minor;
	uint64_t size;   /* bytes of a file, holes included */
	uint64_t stored; /* bytes of a file in the tar */
	const struct tar_xattr *xattrs;
	size_t nxattrs;
};

struct tar_piece {
	uint64_t offset, len;
};

struct tar {
	const struct stream *stream;
	const unsigned char *p; /* what is left of the stream's block */
	size_t left;
	bool stream_ended;
	uint64_t padded;  /* bytes of this entry's data and padding that are still to come */
	uint64_t padding; /* of these, behind the data */
	char name[TAR_NAME_MAX], link[TAR_NAME_MAX];
	struct strbuf extended; /* the PAX records of this entry */
	struct tar_xattr xattrs[TAR_XATTRS_MAX];
	struct tar_piece *pieces; /* NULL: the file is not sparse */
	size_t npieces, cap, piece;
	uint64_t piece_done;
	uint64_t position; /* in the file */
	const struct tar_entry *entry;
};

void tar_init(struct tar *t, const struct stream *stream);

/*
 * 1: *ret is the next entry, valid until the next call. 0: the end of a whole tar. -EBADMSG:
 * broken.
 */
int tar_next(struct tar *t, struct tar_entry *ret) must_check;

/*
 * Points *ret at the next bytes of the file's data, which belong at *ret_offset of the file.
 * Returns their number, or 0 when there are no more.
 */
ssize_t tar_data(struct tar *t, const unsigned char **ret, uint64_t *ret_offset) must_check;

void tar_release(struct tar *t);
#define _cleanup_tar_ __attribute__((cleanup(tar_release), unused))
