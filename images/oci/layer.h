/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacks one layer, which may be compressed, into a directory tree, and computes the digest of the
 * uncompressed stream at the same time. The digest of the compressed stream is not computed,
 * because the image's configuration, whose own digest was checked, gives the digest of the
 * uncompressed stream, and two different trees cannot both have that digest.
 */
#pragma once
#include "images/oci/tree.h"

struct layer {
	const char *what; /* name of the layer, such as "layer 2 of 4", which error messages use */
	/* size of the compressed stream in bytes; UINT64_MAX: not known */
	uint64_t size;
	/* expected digest of the uncompressed stream; NULL: not known */
	const struct digest *diff_id;
	/*
	 * called at the end of the file if more bytes are expected, as the member `more` of struct
	 * file_source; NULL: nobody is still writing the file
	 */
	int (*more)(void *data);
	void *more_data;
	/*
	 * Called from time to time with the number of bytes of the compressed stream that were
	 * read. May be NULL.
	 */
	void (*progress)(void *data, uint64_t done);
	void *data;
};

struct layer_result {
	struct digest diff_id;
	uint64_t size, entries;
};

/*
 * Applies the layer in file fd, from its present position to its end, to the tree in directory
 * `root`. Returns -EBADMSG if the layer is damaged or has another size or digest; the caller then
 * has to remove the tree.
 */
int layer_apply(const struct layer *l, int fd, int root, const struct tree_options *options,
	struct layer_result *ret) must_check;
