/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what the files of the tar reader share. */
#pragma once
#include "images/oci/tar.h"

#define TAR_BLOCK_SIZE 512u

/*
 * The values in the PAX records of an entry. If a record is missing, its string is NULL or its flag
 * is false.
 */
struct pax {
	const char *path, *linkpath;
	bool has_size, has_uid, has_gid, has_mtime;
	uint64_t size, uid, gid;
	struct timespec mtime;
	size_t nxattrs;
	/*
	 * values of GNU's sparse files: the name, the real size, and the map of formats 0.0 and 0.1
	 */
	const char *sparse_name;
	/* for the format 1.0: the map is at the beginning of the data */
	bool has_real_size, sparse_map_in_data;
	bool sparse;
	uint64_t real_size;
};

/*
 * Parses the records in t->extended, and writes a NUL behind each value there. The result points
 * into that text. The extended attributes go to t->xattrs, and the pieces of a sparse file to
 * t->pieces.
 */
int pax_parse(struct tar *t, struct pax *ret) must_check;

/*
 * Copies len bytes of the stream to buf. Returns the number of bytes copied, which is less than len
 * only at the end of the stream.
 */
ssize_t tar_read(struct tar *t, void *buf, size_t len) must_check;

/* Reads the map of a sparse file in GNU's format 1.0 from the beginning of the entry's data. */
int sparse_read_map(struct tar *t) must_check;
/*
 * Reads the map of a sparse file in the old GNU format, which is in the header and in the blocks
 * behind it.
 */
int sparse_read_old(struct tar *t, const unsigned char *header, uint64_t *ret_size) must_check;
/* Appends a piece to the map of the present sparse file. */
int sparse_add(struct tar *t, uint64_t offset, uint64_t len) must_check;
/* Checks that the pieces are in order, lie within `size`, and have `stored` bytes in total. */
int sparse_check(const struct tar *t, uint64_t size, uint64_t stored) must_check;

/* Parses a number of a header: octal digits, or base 256. */
int tar_number(const unsigned char *field, size_t len, int64_t *ret) must_check;
