/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what the files that read a tar share: tar.c, tar_guard.c, tar_header.c and pax.c. */
#pragma once
#include "images/oci/tar.h"

/*
 * Checks the PAX records in t->records, and puts a NUL behind the value of each record. Extended
 * attributes go to t->xattrs.
 */
int pax_parse(struct tar *t, struct pax *ret) must_check;

/*
 * Gives the next bytes of the tar to libarchive, after the headers among these bytes have been
 * checked. Returns the number of bytes, 0 at the end of the tar, or -errno with a message.
 */
ssize_t guard_next(struct tar *t, const void **ret) must_check;

/*
 * Tells the code of tar_guard.c that the next header belongs to another entry, because libarchive
 * has returned the entry before it.
 */
void guard_expect_entry(struct tar *t);

/* --- tar_header.c: reads and changes the fields of a tar header, which are at these offsets --- */

enum {
	AT_MODE = 100,
	AT_UID = 108,
	AT_GID = 116,
	AT_SIZE = 124,
	AT_MTIME = 136,
	AT_CHECKSUM = 148,
	AT_TYPE = 156,
	AT_LINK = 157,
	AT_MAGIC = 257,
	AT_MAJOR = 329,
	AT_MINOR = 337,
	AT_PREFIX = 345,
	/*
	 * three fields for GNU's sparse files: the first pieces; whether more pieces follow; the
	 * size of the file
	 */
	AT_PIECES = 386,
	AT_PIECES_END = 495,
	AT_MORE_PIECES = 482,
	/* a field in a block of the map, which says whether another block follows */
	AT_MAP_MORE = 504,
	AT_STAR_TRAILER = 508,
};

/*
 * Reads a number of `len` bytes at offset `at` of a header: octal digits, or base 256, as
 * libarchive and Go read it. `what` is the name of the field in messages.
 */
int tar_number(const unsigned char *h, size_t at, size_t len, const char *what, int64_t *ret)
	must_check;

/* Checks the checksum of a header. */
int tar_check_sum(const unsigned char *h) must_check;

/*
 * Overwrites the bytes [at, end) of the header with the byte `with`, and corrects the checksum. In
 * this way tar_guard.c hides from libarchive what libarchive would misread.
 */
void tar_fill(unsigned char *h, size_t at, size_t end, char with);

/*
 * Reads type, ids, size, time and device numbers of the header. *ret_gnu tells whether the header
 * has GNU's form.
 */
int tar_read_fields(const unsigned char *h, struct tar_headers *ret, bool *ret_gnu) must_check;
