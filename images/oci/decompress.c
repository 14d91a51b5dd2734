/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decompresses gzip by ISA-L and zstd by libzstd, inside this process. No other program is ever
 * run, least of all one from a container.
 */
#include <isa-l/igzip_lib.h>
#include <stdlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "images/oci/stream.h"

/*
 * log2 of the largest window of a zstd frame, 32 MiB. The window is limited, because an untrusted
 * frame must not make this process use any amount of memory.
 */
#define ZSTD_WINDOW_LOG 25

/*
 * The functions of a kind of compression. run() decompresses some of the input (d->in, d->in_len,
 * which it advances) into d->buf and returns the number of bytes, at most STREAM_BLOCK. It returns
 * 0 if it needs more input. If the input has ended (d->in_ended), 0 means that the stream may end
 * at this place.
 */
struct codec {
	int (*start)(struct decompressor *d);
	ssize_t (*run)(struct decompressor *d);
	void (*release)(void *state);
};

static int fill(struct decompressor *d)
{
	if (d->in_len > 0 || d->in_ended)
		return 0;
	ssize_t n = stream_next(d->below, &d->in);
	if (n < 0)
		return (int)n;
	d->in_len = (size_t)n;
	d->in_ended = n == 0;
	return 0;
}

static void use(struct decompressor *d, size_t n)
{
	d->in += n;
	d->in_len -= n;
}

/*
 * Starts the kind "no compression", which has no state. plain_run() copies each block, because the
 * reader may still use one block while the next one is read.
 */
static int plain_start(struct decompressor *d)
{
	return 0;
}

static ssize_t plain_run(struct decompressor *d)
{
	size_t n = d->in_len < STREAM_BLOCK ? d->in_len : STREAM_BLOCK;

	memcpy(d->buf, d->in, n);
	use(d, n);
	return (ssize_t)n;
}

struct gzip {
	struct inflate_state inflate;
	bool in_member;
	/* whether zeros were found behind the last gzip member, so that only zeros may follow */
	bool padding;
	unsigned magic; /* how many of the next member's two magic bytes were found */
};

static int gzip_start(struct decompressor *d)
{
	d->state = calloc(1, sizeof(struct gzip));
	return d->state ? 0 : err_set(ENOMEM, "out of memory");
}

/*
 * Handles the bytes between gzip members: either the two magic bytes of the next member, or zeros
 * up to the end. The two magic bytes may be in two blocks, so the function gives ISA-L a copy of
 * both.
 */
static int gzip_between(struct decompressor *d, struct gzip *g)
{
	static unsigned char magic[2] = {0x1f, 0x8b};

	while (d->in_len > 0) {
		unsigned char c = *d->in;
		if (g->magic == 0 && c == 0) {
			g->padding = true;
		} else if (g->padding || c != magic[g->magic]) {
			return err_set(EBADMSG, "bytes that are no gzip follow a gzip member");
		} else if (++g->magic == 2) {
			use(d, 1);
			isal_inflate_init(&g->inflate);
			g->inflate.crc_flag = ISAL_GZIP;
			g->inflate.next_in = magic;
			g->inflate.avail_in = sizeof(magic);
			g->inflate.next_out = d->buf;
			g->inflate.avail_out = 0;
			if (isal_inflate(&g->inflate) < 0 || g->inflate.avail_in)
				return err_set(EBADMSG, "the gzip header is broken");
			g->in_member = true;
			g->magic = 0;
			return 0;
		}
		use(d, 1);
	}
	return 0;
}

static const char *gzip_error(int r)
{
	switch (r) {
	case ISAL_INVALID_WRAPPER:
	case ISAL_UNSUPPORTED_METHOD:
		return "the gzip header is broken";
	case ISAL_INCORRECT_CHECKSUM:
		return "the checksum of the gzip stream is wrong";
	default:
		return "the gzip stream is broken";
	}
}

static ssize_t gzip_run(struct decompressor *d)
{
	struct gzip *g = d->state;

	if (!g->in_member) {
		int r = gzip_between(d, g);
		if (r < 0)
			return r;
		if (!g->in_member) {
			if (d->in_ended && g->magic)
				return err_set(EBADMSG, "the gzip stream is incomplete");
			return 0;
		}
	}
	g->inflate.next_in = (uint8_t *)d->in;
	g->inflate.avail_in = (uint32_t)d->in_len;
	g->inflate.next_out = d->buf;
	g->inflate.avail_out = STREAM_BLOCK;
	int r = isal_inflate(&g->inflate);
	if (r < 0)
		return err_set(EBADMSG, "%s", gzip_error(r));
	use(d, d->in_len - g->inflate.avail_in);
	ssize_t n = (ssize_t)(STREAM_BLOCK - g->inflate.avail_out);
	if (g->inflate.block_state == ISAL_BLOCK_FINISH)
		g->in_member = false;
	else if (n == 0 && d->in_ended)
		return err_set(EBADMSG, "the gzip stream is incomplete");
	return n;
}

struct zstd {
	ZSTD_DCtx *ctx;
	/* result of the zstd decoder's last call; 0: the decoder is between two frames */
	size_t left;
};

static void zstd_release(void *state)
{
	struct zstd *z = state;

	if (z)
		ZSTD_freeDCtx(z->ctx);
	free(z);
}

static int zstd_start(struct decompressor *d)
{
	struct zstd *z = calloc(1, sizeof(*z));

	d->state = z;
	if (z)
		z->ctx = ZSTD_createDCtx();
	if (!z || !z->ctx)
		return err_set(ENOMEM, "out of memory");
	if (ZSTD_isError(ZSTD_DCtx_setParameter(z->ctx, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG)))
		return err_set(EIO, "set the limit of zstd's window");
	return 0;
}

static ssize_t zstd_run(struct decompressor *d)
{
	struct zstd *z = d->state;
	ZSTD_inBuffer in = {.src = d->in, .size = d->in_len};
	ZSTD_outBuffer out = {.dst = d->buf, .size = STREAM_BLOCK};

	if (d->in_len == 0 && z->left == 0)
		return 0;
	size_t r = ZSTD_decompressStream(z->ctx, &out, &in);
	if (ZSTD_isError(r))
		return err_set(EBADMSG, "the zstd stream is broken: %s%s", ZSTD_getErrorName(r),
			ZSTD_getErrorCode(r) == ZSTD_error_frameParameter_windowTooLarge
				? ": a window of more than 32 MiB: compress the layer without "
				  "--ultra and --long"
				: "");
	z->left = r;
	use(d, in.pos);
	if (out.pos == 0 && in.pos == 0 && d->in_ended && z->left)
		return err_set(EBADMSG, "the zstd stream is incomplete");
	return (ssize_t)out.pos;
}

static const struct codec plain = {plain_start, plain_run, free};
static const struct codec gzip = {gzip_start, gzip_run, free};
static const struct codec zstd = {zstd_start, zstd_run, zstd_release};

static bool is_zstd(const unsigned char *p)
{
	static const unsigned char frame[] = {0x28, 0xb5, 0x2f, 0xfd},
				   skippable[] = {0x2a, 0x4d, 0x18};

	return memcmp(p, frame, sizeof(frame)) == 0 ||
	       ((p[0] & 0xf0) == 0x50 && memcmp(p + 1, skippable, sizeof(skippable)) == 0);
}

static int choose(struct decompressor *d)
{
	static const struct {
		const char *magic, *name;
	} others[] = {{"BZh", "bzip2"}, {"\xfd"
					 "7zX",
						"xz"}};
	const unsigned char *p = d->in;

	d->codec = &plain;
	if (d->in_len >= 2 && p[0] == 0x1f && p[1] == 0x8b)
		d->codec = &gzip;
	else if (d->in_len >= 4 && is_zstd(p))
		d->codec = &zstd;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (d->in_len >= 4 && memcmp(p, others[i].magic, strlen(others[i].magic)) == 0)
			return err_set(EPROTONOSUPPORT,
				"compressed by %s: image-spec knows gzip and zstd", others[i].name);
	return d->codec->start(d);
}

static ssize_t decompress_next(void *data, const unsigned char **ret)
{
	struct decompressor *d = data;

	while (!d->ended) {
		int r = fill(d);
		if (r >= 0 && !d->codec)
			r = choose(d);
		if (r < 0)
			return r;
		ssize_t n = d->codec->run(d);
		if (n < 0)
			return n;
		if (n > 0) {
			*ret = d->buf;
			r = hasher_update(&d->hasher, d->buf, (size_t)n);
			return r < 0 ? r : n;
		}
		d->ended = d->in_ended;
	}
	return 0;
}

int decompressor_init(
	struct decompressor *d, const struct stream *below, enum digest_algorithm algorithm)
{
	*d = (struct decompressor){.stream = {decompress_next, d}, .below = below};
	d->buf = malloc(STREAM_BLOCK);
	if (!d->buf)
		return err_set(ENOMEM, "out of memory");
	return hasher_init(&d->hasher, algorithm);
}

void decompressor_release(struct decompressor *d)
{
	if (d->codec)
		d->codec->release(d->state);
	d->state = NULL;
	hasher_release(&d->hasher);
	free(d->buf);
	d->buf = NULL;
}
