/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a layer (image-spec, layer.md) from an overlay's upper directory, and writes it into the
 * store. The same tree always gives the same bytes: entries are in the order of their names, access
 * times are left out, and the compressor has one thread and fixed settings.
 */
#pragma once
#include "images/oci/store.h"
#include "images/oci/upper.h"

enum layer_compression { LAYER_GZIP, LAYER_ZSTD, LAYER_PLAIN };

/*
 * Parses the name of a compression. Returns -EINVAL if the text is neither "gzip" nor "zstd" nor
 * "none".
 */
int layer_compression_parse(const char *text, enum layer_compression *ret) must_check;

struct layer_writing {
	int upper; /* descriptor of the upper directory */
	enum layer_compression compression;
	/*
	 * returns whether the runtime has made the path to mount something there: see struct
	 * upper_options
	 */
	bool (*is_mount_point)(void *data, const char *path);
	/*
	 * Called with a text for each file that cannot be in a layer, such as a socket. May be
	 * NULL.
	 */
	void (*warn)(void *data, const char *text);
	void *data;
};

/*
 * Writes the layer. *ret gets the layer's media type, digest and size, and *ret_diff_id the digest
 * of the tar. *ret_entries is the number of entries in the layer besides the root directory.
 */
int layer_write(const struct store *s, const struct layer_writing *l, struct descriptor *ret,
	struct digest *ret_diff_id, uint64_t *ret_entries) must_check;
