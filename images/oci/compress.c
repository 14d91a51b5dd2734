/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/compress.h"

#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <zstd.h>

#define OUT_SIZE (256u << 10)
#define ZSTD_LEVEL 3 /* compression level: zstd's own default */

int compressor_init(struct compressor *c, enum layer_compression kind, struct blob_writer *blob)
{
	struct isal_zstream *z;

	*c = (struct compressor){.kind = kind, .blob = blob};
	if (kind == LAYER_PLAIN)
		return 0;
	c->out = malloc(OUT_SIZE);
	if (kind == LAYER_ZSTD) {
		c->state = ZSTD_createCStream();
		if (c->state && c->out && !ZSTD_isError(ZSTD_initCStream(c->state, ZSTD_LEVEL)))
			return 0;
		return err_set(ENOMEM, "start the zstd compressor");
	}
	c->state = z = malloc(sizeof(*z));
	c->level = malloc(ISAL_DEF_LVL1_DEFAULT);
	if (!z || !c->level || !c->out)
		return err_set(ENOMEM, "out of memory");
	isal_deflate_init(z);
	z->gzip_flag = IGZIP_GZIP;
	z->level = 1;
	z->level_buf = c->level;
	z->level_buf_size = ISAL_DEF_LVL1_DEFAULT;
	return 0;
}

static int deflate(struct compressor *c, const void *data, size_t len, bool end)
{
	struct isal_zstream *z = c->state;
	int r = 0;

	z->next_in = (uint8_t *)(uintptr_t)data;
	z->avail_in = (uint32_t)len;
	z->end_of_stream = end;
	do {
		z->next_out = c->out;
		z->avail_out = OUT_SIZE;
		if (isal_deflate(z) != COMP_OK)
			return err_set(EIO, "compress the layer");
		r = blob_write(c->blob, c->out, OUT_SIZE - z->avail_out);
	} while (r >= 0 && (z->avail_in || z->avail_out == 0));
	return r;
}

static int compress_zstd(struct compressor *c, const void *data, size_t len, bool end)
{
	ZSTD_inBuffer in = {data, len, 0};
	size_t left;
	int r;

	do {
		ZSTD_outBuffer out = {c->out, OUT_SIZE, 0};
		left = ZSTD_compressStream2(
			c->state, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
		if (ZSTD_isError(left))
			return err_set(EIO, "compress the layer: %s", ZSTD_getErrorName(left));
		r = blob_write(c->blob, c->out, out.pos);
	} while (r >= 0 && (in.pos < in.size || (end && left)));
	return r;
}

static int compress(struct compressor *c, const void *data, size_t len, bool end)
{
	return c->kind == LAYER_ZSTD   ? compress_zstd(c, data, len, end)
	       : c->kind == LAYER_GZIP ? deflate(c, data, len, end)
				       : blob_write(c->blob, data, len);
}

int compressor_add(struct compressor *c, const void *data, size_t len)
{
	return compress(c, data, len, false);
}

int compressor_end(struct compressor *c)
{
	return compress(c, "", 0, true);
}

void compressor_release(struct compressor *c)
{
	if (c->kind == LAYER_ZSTD)
		ZSTD_freeCStream(c->state);
	else
		free(c->state);
	free(c->level);
	free(c->out);
}
