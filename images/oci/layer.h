/* SPDX-License-Identifier: Apache-2.0 */
/* Unpacks one layer, compressed or not, into a tree, while its digests are computed. */
#pragma once
#include "images/oci/tree.h"

struct layer {
	const char *what;             /* for messages: "layer 2 of 4" */
	uint64_t size;                /* of the compressed stream; UINT64_MAX: not known */
	const struct digest *digest;  /* what the compressed stream must have; NULL: not known */
	const struct digest *diff_id; /* what the uncompressed one must have; NULL: not known */
	/*
	 * Called now and then with the bytes of the compressed stream that were read. May be NULL.
	 */
	void (*progress)(void *data, uint64_t done);
	void *data;
};

struct layer_result {
	struct digest digest, diff_id;
	uint64_t size, entries;
};

/*
 * Applies the layer that fd gives, from where it stands to its end, to the tree beneath root.
 * -EBADMSG: the layer is broken, or has another size or digest; the tree is then of no use.
 */
int layer_apply(const struct layer *l, int fd, int root, const struct tree_options *options,
	struct layer_result *ret) must_check;
