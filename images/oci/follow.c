/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/follow.h"

#include <poll.h>

/*
 * How long, in ms, this process waits before it looks again at a file that another process is
 * writing. With a shorter time this process would wake more often, and with a longer one it would
 * notice the end of the layer later.
 */
#define LOOK_EVERY_MS 5

/*
 * Waits for LOOK_EVERY_MS, or until the process that pulls writes to the pipe. Returns 1, or
 * -ECANCELED if that process has closed the pipe, so that no more blobs will come.
 */
static int wait_a_while(struct follower *f)
{
	struct pollfd p = {.fd = f->complete ? -1 : f->pipe, .events = POLLIN};
	char byte;

	if (poll(&p, 1, LOOK_EVERY_MS) < 0 && errno != EINTR)
		return err_sys("wait for the process that pulls");
	if (!(p.revents & (POLLIN | POLLHUP)))
		return 1;
	ssize_t n = read(f->pipe, &byte, 1);
	if (n < 0 && errno == EINTR)
		return 1;
	if (n != 1)
		return err_set(ECANCELED, "the process that pulls has ended");
	f->complete = true;
	if (f->on_complete)
		f->on_complete(f->data);
	return 1;
}

static int more(void *data)
{
	struct follower *f = data;
	/*
	 * If the pull was complete before this look already, the file has been read to its final
	 * end. If the pull became complete only now, the file is read once more, because it may
	 * have grown since its end was read.
	 */
	bool was_complete = f->complete;
	int r = wait_a_while(f);

	return r > 0 ? !was_complete : r;
}

static int open_blob(void *data, const struct descriptor *d)
{
	struct follower *f = data;
	int r = 1;

	while (r > 0) {
		r = store_has_blob(f->s, &d->digest, d->size);
		if (r > 0)
			return store_open_blob(f->s, &d->digest, NULL);
		int fd = r < 0 ? r : store_open_unfinished(f->s, &d->digest);
		if (fd != -ENOENT)
			return fd;
		r = f->complete ? err_set(ENOENT, "%s did not come", d->digest.text)
				: wait_a_while(f);
	}
	return r;
}

void follow_init(struct follower *f, const struct store *s, int pipe)
{
	f->s = s;
	f->pipe = pipe;
	f->source = (struct layer_source){open_blob, more, f};
}

/*
 * Waits until the store has the blob that d describes. Returns 1 if it has the blob, or 0 if the
 * pull is complete without the blob.
 */
static int wait_for_blob(struct follower *f, const struct descriptor *d)
{
	int r = store_has_blob(f->s, &d->digest, d->size);

	while (r == 0 && !f->complete) {
		r = wait_a_while(f);
		if (r > 0)
			r = store_has_blob(f->s, &d->digest, d->size);
	}
	return r;
}

int follow_image(struct follower *f, struct arena *a, const struct descriptor *d, struct image *ret)
{
	*ret = (struct image){.tag = *d};
	int r = image_read_manifest(f->s, a, NULL, ret);
	if (r >= 0)
		r = wait_for_blob(f, &ret->document.config);
	if (r >= 0)
		r = image_read_config(f->s, a, ret);
	ret->source = &f->source;
	return r;
}
