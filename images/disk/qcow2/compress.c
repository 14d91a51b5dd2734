/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compresses and decompresses clusters, as raw deflate data with a window of 4 KiB or as zstd
 * frames. Compressed data may be followed by other bytes up to the end of its last sector. The
 * compressed data must decompress to exactly one cluster.
 */
#include <zlib.h>
#include <zstd.h>

#include "images/disk/qcow2/internal.h"

#define WINDOW_BITS 12
/*
 * The level of zstd is 1, because zstd's default level takes 1.5 times as long to make the files of
 * a Debian system 5 % smaller.
 */
#define ZSTD_LEVEL 1

static int inflate_cluster(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	/*
	 * The cast removes const, because zlib's pointer to the input is not const. That does no
	 * harm, because zlib only reads its input.
	 */
	z_stream z = {.next_in = (uint8_t *)(uintptr_t)in,
		.avail_in = (unsigned)in_len,
		.next_out = out,
		.avail_out = (unsigned)out_len};

	if (inflateInit2(&z, -WINDOW_BITS) != Z_OK)
		return err_set(ENOMEM, "no memory to inflate");
	int r = inflate(&z, Z_FINISH);
	unsigned left = z.avail_out;
	inflateEnd(&z);
	/*
	 * Z_BUF_ERROR is accepted, because it means that the output is full, and the rest of the
	 * stream does not matter.
	 */
	if (left || (r != Z_STREAM_END && r != Z_BUF_ERROR))
		return err_set(
			EIO, "found no deflate data for a whole cluster: the data is damaged");
	return 0;
}

static int zstd_cluster(const uint8_t *in, size_t in_len, uint8_t *out, size_t out_len)
{
	ZSTD_inBuffer from = {in, in_len, 0};
	ZSTD_outBuffer to = {out, out_len, 0};
	ZSTD_DCtx *z = ZSTD_createDCtx();
	size_t r = 1;

	if (!z)
		return err_set(ENOMEM, "no memory to decompress");
	/*
	 * The loop goes on after the end of a frame, because the data may be several frames. If a
	 * call neither reads nor writes anything, the data is damaged.
	 */
	while (to.pos < to.size && !ZSTD_isError(r)) {
		size_t in_before = from.pos, out_before = to.pos;

		r = ZSTD_decompressStream(z, &to, &from);
		if (from.pos == in_before && to.pos == out_before)
			break;
	}
	ZSTD_freeDCtx(z);
	if (ZSTD_isError(r))
		return err_set(EIO, "zstd: %s: the data is damaged", ZSTD_getErrorName(r));
	if (to.pos < to.size)
		return err_set(EIO, "found no zstd data for a whole cluster: the data is damaged");
	return 0;
}

int qcow2_decompress(struct qcow2 *q, const uint8_t *in, size_t in_len, uint8_t *out)
{
	return q->h.compression == QCOW2_ZSTD ? zstd_cluster(in, in_len, out, q->cluster_size)
					      : inflate_cluster(in, in_len, out, q->cluster_size);
}

struct qcow2_packer {
	enum qcow2_compression how;
	size_t cluster;
	z_stream z;
	bool z_ready;
	ZSTD_CCtx *zstd;
	/* output of zstd; has room for any result, because zstd is slower if one might not fit */
	uint8_t *out;
	size_t out_len;
};

int qcow2_packer_new(struct disk *d, struct qcow2_packer **ret)
{
	struct qcow2_packer *p = calloc(1, sizeof(*p));

	*ret = NULL;
	if (!p)
		return disk_err(d, ENOMEM, "no memory");
	p->how = qcow2_compression_of(d);
	p->cluster = qcow2_cluster_size(d);
	if (p->how == QCOW2_ZSTD) {
		p->zstd = ZSTD_createCCtx();
		p->out_len = ZSTD_compressBound(p->cluster);
		p->out = malloc(p->out_len);
	} else {
		p->z_ready = deflateInit2(&p->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -WINDOW_BITS, 9,
				     Z_DEFAULT_STRATEGY) == Z_OK;
	}
	if (!p->z_ready && (!p->zstd || !p->out)) {
		qcow2_packer_free(p);
		return disk_err(d, ENOMEM, "no memory to compress");
	}
	*ret = p;
	return 0;
}

void qcow2_packer_free(struct qcow2_packer *p)
{
	if (!p)
		return;
	if (p->z_ready)
		deflateEnd(&p->z);
	ZSTD_freeCCtx(p->zstd);
	free(p->out);
	free(p);
}

static size_t deflate_cluster(struct qcow2_packer *p, const void *in, void *out, size_t room)
{
	if (deflateReset(&p->z) != Z_OK)
		return 0;
	p->z.next_in = (uint8_t *)(uintptr_t)in;
	p->z.avail_in = (unsigned)p->cluster;
	p->z.next_out = out;
	p->z.avail_out = (unsigned)room;
	return deflate(&p->z, Z_FINISH) == Z_STREAM_END ? room - p->z.avail_out : 0;
}

int qcow2_compress(struct qcow2_packer *p, const void *in, void *out, size_t *ret_len)
{
	/*
	 * The output must be smaller than the cluster, because otherwise compression saves nothing.
	 */
	size_t room = p->cluster - 1;

	if (p->how == QCOW2_ZLIB) {
		*ret_len = deflate_cluster(p, in, out, room);
		return 0;
	}
	size_t n = ZSTD_compressCCtx(p->zstd, p->out, p->out_len, in, p->cluster, ZSTD_LEVEL);
	*ret_len = ZSTD_isError(n) || n > room ? 0 : n;
	memcpy(out, p->out, *ret_len);
	return 0;
}
