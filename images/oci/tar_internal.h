/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the tar reader share. */
#pragma once
#include "images/oci/tar.h"

#define TAR_BLOCK_SIZE 512u

/* What the PAX records of an entry say; a NULL text or a false flag: nothing. */
struct pax {
	const char *path, *linkpath;
	bool has_size, has_uid, has_gid, has_mtime;
	uint64_t size, uid, gid;
	struct timespec mtime;
	size_t nxattrs;
	/* GNU's sparse files: the name, the real size, and the map of the forms 0.0 and 0.1 */
	const char *sparse_name;
	bool has_real_size, sparse_map_in_data; /* the form 1.0 has its map before the data */
	bool sparse;
	uint64_t real_size;
};

/*
 * Parses the records in t->extended, which it writes to (each value gets a NUL behind it), and
 * which the result points into. xattrs go to t->xattrs, the pieces of a sparse file to t->pieces.
 */
int pax_parse(struct tar *t, struct pax *ret) must_check;

/* Copies len bytes of the stream to buf. Returns their number: less than len only at the end. */
ssize_t tar_read(struct tar *t, void *buf, size_t len) must_check;

/* Reads the map of the form 1.0 at the beginning of the entry's data. */
int sparse_read_map(struct tar *t) must_check;
/* Reads the map of the old GNU form: in the header, and in the blocks behind it. */
int sparse_read_old(struct tar *t, const unsigned char *header, uint64_t *ret_size) must_check;
/* Appends a piece. */
int sparse_add(struct tar *t, uint64_t offset, uint64_t len) must_check;
/* Checks that the pieces are in order, within size, and have `stored` bytes together. */
int sparse_check(const struct tar *t, uint64_t size, uint64_t stored) must_check;

/* A number of a header: octal digits, or base 256. */
int tar_number(const unsigned char *field, size_t len, int64_t *ret) must_check;
