/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements two kinds of streams: one that reads a file, and one whose thread reads ahead of the
 * reader.
 */
#include "images/oci/stream.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#define AHEAD_BLOCKS 16

/*
 * Called at the end of the file. Returns 1 if the file should be read again, 0 if it should not, or
 * -errno.
 */
static int wait_for_more(const struct file_stream *f, size_t n)
{
	const struct file_source *s = &f->source;

	return s->more && f->done + n < s->max ? s->more(s->data) : 0;
}

/*
 * Reads a full block, even from a pipe, unless the file ends, because the decompressor finds out
 * the kind of compression from the first bytes, and looks for all of them in the first block.
 */
static ssize_t file_next(void *data, const unsigned char **ret)
{
	struct file_stream *f = data;
	const struct file_source *s = &f->source;
	size_t n = 0;
	int r = 1;

	while (n < STREAM_BLOCK && r > 0) {
		ssize_t got = read(s->fd, f->buf + n, STREAM_BLOCK - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return err_sys("read %s", s->what);
		n += (size_t)got;
		if (got == 0)
			r = wait_for_more(f, n);
	}
	if (r < 0)
		return r;
	if (n > s->max - f->done)
		return err_set(EFBIG, "%s: more bytes than its size, %" PRIu64, s->what, s->max);
	f->done += n;
	*ret = f->buf;
	r = s->algorithm ? hasher_update(&f->hasher, f->buf, n) : 0;
	return r < 0 ? r : (ssize_t)n;
}

int file_stream_init(struct file_stream *f, const struct file_source *source)
{
	*f = (struct file_stream){.stream = {file_next, f}, .source = *source};
	f->buf = malloc(STREAM_BLOCK);
	if (!f->buf)
		return err_set(ENOMEM, "out of memory");
	return source->algorithm ? hasher_init(&f->hasher, *source->algorithm) : 0;
}

void file_stream_release(struct file_stream *f)
{
	hasher_release(&f->hasher);
	free(f->buf);
	f->buf = NULL;
}

struct block {
	unsigned char *bytes;
	size_t len;
};

/*
 * A ring of blocks between the thread that reads ahead and the reader. `filled` is the number of
 * blocks that the thread has filled, and `taken` the number of blocks that the reader has finished.
 * The reader uses block number `taken` until its next call.
 */
struct ahead {
	const struct stream *below;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct block blocks[AHEAD_BLOCKS];
	uint64_t filled, taken;
	bool holding;  /* the reader is still using the block that it got last */
	bool stop;     /* the reader wants no more blocks */
	bool finished; /* the thread has ended, so no more blocks come */
	int result;    /* result of the thread: 0 at the end of the stream, or -errno */
	char *message; /* error message of the thread */
};

/*
 * Once all blocks are filled, the thread sleeps until the reader has taken half of them, because
 * being woken for each block takes longer than filling one if other programs use the CPUs.
 */
static bool wait_for_room(struct ahead *a)
{
	pthread_mutex_lock(&a->lock);
	if (a->filled - a->taken == AHEAD_BLOCKS)
		while (!a->stop && a->filled - a->taken > AHEAD_BLOCKS / 2)
			pthread_cond_wait(&a->changed, &a->lock);
	bool go = !a->stop;
	pthread_mutex_unlock(&a->lock);
	return go;
}

static void put(struct ahead *a, const unsigned char *bytes, size_t len)
{
	struct block *b = &a->blocks[a->filled % AHEAD_BLOCKS];

	memcpy(b->bytes, bytes, len);
	b->len = len;
	pthread_mutex_lock(&a->lock);
	a->filled++;
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

static void *run_ahead(void *data)
{
	struct ahead *a = data;
	const unsigned char *bytes;
	ssize_t n = 0;

	while (wait_for_room(a)) {
		n = stream_next(a->below, &bytes);
		if (n <= 0)
			break;
		put(a, bytes, (size_t)n);
	}
	pthread_mutex_lock(&a->lock);
	a->result = n < 0 ? (int)n : 0;
	a->message = n < 0 ? strdup(err_msg()) : NULL;
	a->finished = true;
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->lock);
	return NULL;
}

static ssize_t ahead_next(void *data, const unsigned char **ret)
{
	struct ahead *a = data;

	pthread_mutex_lock(&a->lock);
	if (a->holding) {
		a->taken++;
		a->holding = false;
		if (a->filled - a->taken <= AHEAD_BLOCKS / 2)
			pthread_cond_signal(&a->changed);
	}
	while (a->filled == a->taken && !a->finished)
		pthread_cond_wait(&a->changed, &a->lock);
	bool there = a->filled != a->taken;
	a->holding = there;
	pthread_mutex_unlock(&a->lock);
	if (there) {
		const struct block *b = &a->blocks[a->taken % AHEAD_BLOCKS];
		*ret = b->bytes;
		return (ssize_t)b->len;
	}
	if (a->result < 0)
		return err_set(-a->result, "%s", a->message ? a->message : "out of memory");
	return 0;
}

static void free_ahead(struct ahead *a)
{
	for (size_t i = 0; i < AHEAD_BLOCKS; i++)
		free(a->blocks[i].bytes);
	free(a->message);
	pthread_mutex_destroy(&a->lock);
	pthread_cond_destroy(&a->changed);
	free(a);
}

int ahead_start(const struct stream *below, struct ahead **ret)
{
	struct ahead *a = calloc(1, sizeof(*a));

	if (!a)
		return err_set(ENOMEM, "out of memory");
	a->below = below;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
	int r = 0;
	for (size_t i = 0; i < AHEAD_BLOCKS && r == 0; i++) {
		a->blocks[i].bytes = malloc(STREAM_BLOCK);
		if (!a->blocks[i].bytes)
			r = ENOMEM;
	}
	if (r == 0)
		r = pthread_create(&a->thread, NULL, run_ahead, a);
	if (r != 0) {
		free_ahead(a);
		return err_set(r, "start a thread: %s", err_text(r));
	}
	*ret = a;
	return 0;
}

struct stream ahead_stream(struct ahead *a)
{
	return (struct stream){ahead_next, a};
}

void ahead_stop(struct ahead **p)
{
	struct ahead *a = *p;

	if (!a)
		return;
	*p = NULL;
	pthread_mutex_lock(&a->lock);
	a->stop = true;
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->lock);
	pthread_join(a->thread, NULL);
	free_ahead(a);
}
