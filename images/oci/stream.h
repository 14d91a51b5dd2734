/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads streams of bytes block by block: a file, its decompressed content, and a stream whose
 * thread reads ahead. A stream uses the stream below it, so both must exist until the reader has
 * finished.
 */
#pragma once
#include "images/oci/digest.h"

#define STREAM_BLOCK (256u << 10) /* largest block in bytes */

struct stream {
	/*
	 * Sets *ret to the next bytes, which stay valid until the next call. Returns the number of
	 * these bytes, 0 at the end and at each call after the end, or -errno.
	 */
	ssize_t (*next)(void *data, const unsigned char **ret);
	void *data;
};

static inline ssize_t stream_next(const struct stream *s, const unsigned char **ret)
{
	return s->next(s->data, ret);
}

struct file_source {
	int fd;           /* the file; the caller closes it */
	const char *what; /* name of the file, which error messages use */
	/* largest number of bytes that the file may have; a larger file gives -EFBIG */
	uint64_t max;
	/* algorithm of the digest of the bytes; NULL: no digest is computed */
	const enum digest_algorithm *algorithm;
	/*
	 * Called if the file ends before `max` bytes, because another process may still be writing
	 * the file. Returns 1 after a short wait to have the file read again, 0 if no more bytes
	 * will come, or -errno. NULL: nobody is writing the file.
	 */
	int (*more)(void *data);
	void *data;
};

/*
 * A stream that reads a file descriptor from its present position to the end of the file. It counts
 * the bytes in `done`, which another thread may read.
 */
struct file_stream {
	struct stream stream;
	struct file_source source;
	_Atomic uint64_t done;
	struct hasher hasher;
	unsigned char *buf;
};

int file_stream_init(struct file_stream *f, const struct file_source *source) must_check;
void file_stream_release(struct file_stream *f);

/*
 * A stream that decompresses the stream below it and computes the digest of the result. The first
 * bytes decide which compression it is, because media types are sometimes wrong: gzip (also several
 * members with zeros after the last), zstd (also several frames, some of them skippable) or none.
 */
struct decompressor {
	struct stream stream;
	const struct stream *below;
	struct hasher hasher;
	const struct codec *codec; /* functions of the compression; NULL before the first block */
	void *state;               /* private data of the codec */
	/* bytes of the block from `below` that are not decompressed yet */
	const unsigned char *in;
	size_t in_len;
	bool in_ended;
	bool ended;
	unsigned char *buf;
};

int decompressor_init(struct decompressor *d, const struct stream *below,
	enum digest_algorithm algorithm) must_check;
void decompressor_release(struct decompressor *d);

/*
 * A stream whose thread reads the stream below it, up to AHEAD_BLOCKS blocks ahead of the reader.
 * The reader gets the error messages of the thread.
 */
struct ahead;

int ahead_start(const struct stream *below, struct ahead **ret) must_check;
struct stream ahead_stream(struct ahead *a);
/* Stops the thread, even if the stream has not ended, and waits for it. */
void ahead_stop(struct ahead **a);
