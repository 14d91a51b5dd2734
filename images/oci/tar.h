/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a layer's tar: ustar, GNU and PAX headers, the old and the PAX forms of sparse files.
 *
 * Most layers are written and read by Go programs, so this reader must find the same entries as
 * Go's archive/tar: a PAX size always wins over the header's; links, directories, devices and FIFOs
 * have no data, whatever their size says; a type 0 whose name ends in a slash is a directory. Two
 * readers that disagree on where an entry ends see two images in one layer, so everything that is
 * malformed is an error and never ignored: a PAX record, a checksum, a number, bytes behind the
 * end.
 *
 * Order of calls: tar_init(), then tar_next() until it returns 0; after a file's entry, tar_data()
 * until it returns 0 (tar_next() skips what was not read). tar_release() at the end.
 */
#pragma once
#include <sys/types.h>
#include <time.h>

#include "images/oci/stream.h"

#define TAR_NAME_MAX 4096u /* bytes of a name or a link's target, with its NUL (PATH_MAX) */
#define TAR_EXTENDED_MAX (1u << 20) /* bytes of the PAX records of one entry */
#define TAR_XATTRS_MAX 1024u        /* the most extended attributes of one entry */
#define TAR_SPARSE_MAX 262144u      /* the most pieces of one sparse file */

enum tar_type { TAR_FILE, TAR_HARDLINK, TAR_SYMLINK, TAR_CHAR, TAR_BLOCK, TAR_DIR, TAR_FIFO };

struct tar_xattr {
	const char *name; /* name of the attribute with its namespace, such as "user.x" */
	const void *value;
	size_t len;
};

struct tar_entry {
	enum tar_type type;
	const char *name; /* name as it is in the tar, without slashes at its end */
	const char *link; /* target of a link; "" for other entries */
	/* permission bits with set-user-ID, set-group-ID and sticky: the lower twelve bits */
	mode_t mode;
	uint64_t uid, gid;
	struct timespec mtime;
	uint32_t major, minor;
	uint64_t size;   /* size of the file in bytes, holes included */
	uint64_t stored; /* how many bytes of the file the tar contains */
	const struct tar_xattr *xattrs;
	size_t nxattrs;
};

struct tar_piece {
	uint64_t offset, len;
};

struct tar {
	const struct stream *stream;
	const unsigned char *p; /* the bytes of the stream's present block that are not used yet */
	size_t left;
	bool stream_ended;
	uint64_t padded;  /* how many bytes of this entry's data and padding are still to be read */
	uint64_t padding; /* how many of these bytes are padding behind the data */
	char name[TAR_NAME_MAX], link[TAR_NAME_MAX];
	struct strbuf extended; /* text of the PAX records of this entry */
	struct tar_xattr xattrs[TAR_XATTRS_MAX];
	struct tar_piece *pieces; /* pieces of a sparse file; NULL: the file is not sparse */
	size_t npieces, cap, piece;
	uint64_t piece_done;
	uint64_t position; /* offset in the file of the next bytes of data */
	const struct tar_entry *entry;
};

void tar_init(struct tar *t, const struct stream *stream);

/*
 * Returns 1 if *ret is the next entry, which is valid until the next call; 0 at the end of a
 * complete tar; and -EBADMSG if the tar is damaged.
 */
int tar_next(struct tar *t, struct tar_entry *ret) must_check;

/*
 * Sets *ret to the next bytes of the file's data, and *ret_offset to their offset in the file.
 * Returns their number, or 0 if the file has no more data.
 */
ssize_t tar_data(struct tar *t, const unsigned char **ret, uint64_t *ret_offset) must_check;

void tar_release(struct tar *t);
#define _cleanup_tar_ __attribute__((cleanup(tar_release), unused))
