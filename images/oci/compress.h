/* SPDX-License-Identifier: Apache-2.0 */
/* Compresses the bytes of a layer into a blob: gzip by ISA-L, zstd, or not at all. */
#pragma once
#include "images/oci/layer_write.h"

struct compressor {
	enum layer_compression kind;
	struct blob_writer *blob;
	void *state;          /* state of ISA-L or zstd */
	unsigned char *level; /* tables for ISA-L's compression level */
	unsigned char *out;
};

/* Starts a compressor that writes to the blob. The blob must exist until compressor_release(). */
int compressor_init(struct compressor *c, enum layer_compression kind, struct blob_writer *blob)
	must_check;
int compressor_add(struct compressor *c, const void *data, size_t len) must_check;
/* Writes the end of the compressed stream. */
int compressor_end(struct compressor *c) must_check;
void compressor_release(struct compressor *c);
