/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams of bytes that are pulled block by block: a file, its decompressed content, and a thread
 * that runs ahead. A stream borrows the one beneath it; both live until the reader is done.
 */
#pragma once
#include "images/oci/digest.h"

#define STREAM_BLOCK (256u << 10) /* bytes of a block, at most */

struct stream {
	/*
	 * Points *ret at the next bytes, which stay valid until the next call. Returns their
	 * number, 0 at the end (and at each call from then on), or -errno.
	 */
	ssize_t (*next)(void *data, const unsigned char **ret);
	void *data;
};

static inline ssize_t stream_next(const struct stream *s, const unsigned char **ret)
{
	return s->next(s->data, ret);
}

/*
 * Reads a file descriptor from where it stands, up to its end. Digests what it read. Counts the
 * bytes in `done`, which another thread may read. More than max bytes is -EFBIG.
 */
struct file_stream {
	struct stream stream;
	int fd;           /* borrowed */
	const char *what; /* for messages */
	uint64_t max;
	_Atomic uint64_t done;
	struct hasher hasher;
	unsigned char *buf;
};

int file_stream_init(struct file_stream *f, int fd, const char *what, uint64_t max,
	enum digest_algorithm algorithm) must_check;
void file_stream_release(struct file_stream *f);

/*
 * Decompresses. Which compression it is, is told by the first bytes, because media types are wrong
 * now and then: gzip (several members, zeros behind the last one), zstd (several frames, skippable
 * ones) or none. Digests what comes out.
 */
struct decompressor {
	struct stream stream;
	const struct stream *below;
	struct hasher hasher;
	const struct codec *codec; /* NULL before the first block */
	void *state;               /* the codec's */
	const unsigned char *in;   /* bytes of the block below that are not used yet */
	size_t in_len;
	bool in_ended;
	bool ended;
	unsigned char *buf;
};

int decompressor_init(struct decompressor *d, const struct stream *below,
	enum digest_algorithm algorithm) must_check;
/* "gzip", "zstd" or "none", once a block was read. */
const char *decompressor_name(const struct decompressor *d);
void decompressor_release(struct decompressor *d);

/*
 * Runs the stream below in a thread of its own, up to AHEAD_BLOCKS blocks ahead of the reader.
 * Error messages of the thread become the reader's.
 */
struct ahead;

int ahead_start(const struct stream *below, struct ahead **ret) must_check;
struct stream ahead_stream(struct ahead *a);
/* Stops the thread, which may be in the midst, and waits for it. */
void ahead_stop(struct ahead **a);
