/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads a layer's tar with libarchive: ustar, GNU and PAX headers, the old and the PAX forms of
 * sparse files.
 *
 * Layers are written by Go programs and read by Go programs. Two readers that disagree on where an
 * entry ends see two images in one layer, so this reader sees the entries that Go's archive/tar
 * sees, and everything that is malformed is an error. libarchive is lenient instead, so a guard
 * (tar_guard.c, tar_header.c, pax.c) looks at each header before libarchive does. This list has
 * what libarchive 3.6.2 does although image-spec's readers must not, and what the guard does about
 * it:
 *
 *	it ends silently at the first block of zeros     only zeros may follow
 *	it warns of malformed PAX records, reads "1x"     each record is checked; what is malformed
 *	as 1, an empty "size" as 0, "-1.25" as -0.75      is an error; mtime is taken from here
 *	it takes LIBARCHIVE.xattr, RHT.security.selinux,  only SCHILY.xattr counts; SCHILY.realsize
 *	SCHILY.dev* and SCHILY.realsize for properties    and SUN.holesdata are refused
 *	it forgets a long target of a link with an empty  such a header gets a target
 *	one in its header
 *	it guesses whether a hard link has data           the size of all but files is set to 0
 *	it reads the second of two PAX headers twice      two for one entry are refused
 *	it takes unknown types for files                  they are refused by name
 *	it reads sparse maps in GNU headers of all types  all but that of type S is cleared
 *	if a sparse map says less than the size, it takes the pieces must be in order and whole
 *	the rest for headers
 *	it needs the padding behind the last file         missing padding becomes zeros
 *	it bounds no map of a sparse file                 TAR_MAP_MAX
 *
 * In the end, the guard and libarchive must agree on where each entry ends, else the tar is
 * refused. Names are bytes to this reader. That needs the C locale, in which libarchive keeps them
 * as they are (in a UTF-8 locale it composes the characters of PAX names), so the program must not
 * call setlocale().
 *
 * Order of calls: tar_init(), then tar_next() until it returns 0; after a file's entry, tar_data()
 * until it returns 0 (tar_next() skips what was not read). tar_release() at the end.
 */
#pragma once
#include <sys/types.h>
#include <time.h>

#include "images/oci/stream.h"

#define TAR_NAME_MAX 4096u /* largest name or target of a link in bytes, with its NUL (PATH_MAX) */
#define TAR_EXTENDED_MAX (1u << 20) /* largest size of all PAX records of one entry, in bytes */
#define TAR_XATTRS_MAX 1024u        /* largest number of extended attributes of one entry */
#define TAR_SPARSE_MAX 262144u      /* largest number of pieces of one sparse file */
/* largest map of a sparse file outside of PAX records, in bytes */
#define TAR_MAP_MAX (4u << 20)
#define TAR_BLOCK_SIZE 512u

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

/* The values of the PAX records of one tar entry. */
struct pax {
	bool has_path, has_linkpath, has_size, has_mtime;
	/* the PAX record of the uid or gid has an empty value, so the id in the header counts */
	bool no_uid, no_gid;
	uint64_t size;
	struct timespec mtime;
	size_t nxattrs;
	bool sparse; /* whether the file is sparse, in one of GNU's three PAX forms */
};

/* What guard_next() has read from the headers of the next entry. */
struct tar_headers {
	enum tar_type type;
	/* whether the file is sparse, in one of GNU's three PAX forms or in the old GNU form */
	bool sparse;
	uint64_t uid, gid; /* ids from the tar header, not from PAX records */
	uint64_t size;     /* size of the entry's data in the tar in bytes, without padding */
	uint32_t major, minor;
	int64_t mtime; /* modification time from the tar header, not from a PAX record */
	struct pax pax;
	/*
	 * whether a header of type x (PAX), L (long name) or K (long target of a link) stood before
	 * the entry
	 */
	bool had_pax, had_name, had_link;
	unsigned globals; /* number of headers of type g (global PAX records) in the tar so far */
};

enum tar_state { TAR_AT_HEADER, TAR_AT_MAP, TAR_AT_DATA, TAR_ENDED };

struct tar {
	const struct stream *stream;
	const unsigned char *p; /* the bytes of the stream's present block that are not used yet */
	size_t left;
	bool stream_ended;
	void *reader;     /* libarchive's struct archive; NULL before the first entry */
	void *libs_entry; /* libarchive's struct archive_entry */
	int failure;      /* -errno of a failure of guard_next(); 0: no failure */
	enum tar_state state;
	uint64_t given;      /* number of bytes that guard_next() has given to libarchive */
	uint64_t data_start; /* value of `given` at the start of the present entry's data */
	/*
	 * number of bytes of the present entry's data and padding that libarchive has not got yet
	 */
	uint64_t padded;
	uint64_t padding; /* number of bytes of `padded` that are padding behind the data */
	/* number of bytes that libarchive has got of a sparse file's map in the old GNU form */
	uint64_t map;
	/* whether libarchive still reads headers, and has not returned the entry yet */
	bool at_headers;
	unsigned char block[TAR_BLOCK_SIZE];
	/*
	 * the bytes of a PAX header (type x) or of a GNU header with a long name or link target (L,
	 * K), followed by the bytes of its body
	 */
	struct strbuf special;
	struct strbuf records; /* the PAX records of this entry, into which `xattrs` points */
	struct tar_headers headers;
	struct tar_xattr xattrs[TAR_XATTRS_MAX];
	char name[TAR_NAME_MAX], link[TAR_NAME_MAX];
	uint64_t position; /* offset in the entry's file up to which its data has been read */
	const struct tar_entry *entry;
};

void tar_init(struct tar *t, const struct stream *stream);

/*
 * Returns 1 if *ret is the next entry, which is valid until the next call; 0 at the end of a
 * complete tar; and -EBADMSG if the tar is damaged.
 */
int tar_next(struct tar *t, struct tar_entry *ret) must_check;

/*
 * Sets *ret to the next bytes of the file's data, and *ret_offset to the offset of these bytes in
 * the file. Returns the number of bytes, or 0 if the file has no more data.
 */
ssize_t tar_data(struct tar *t, const unsigned char **ret, uint64_t *ret_offset) must_check;

void tar_release(struct tar *t);
#define _cleanup_tar_ __attribute__((cleanup(tar_release), unused))
