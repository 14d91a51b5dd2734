/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unpacks an image while `caisson image pull` fetches it. caisson-registry starts `caisson-image
 * ahead`, which is not for users. The unpacking needs a process of its own, because an ordinary
 * user's process must become root of a user namespace to unpack, and caisson-registry cannot do so:
 * in a user namespace its credential helpers would not work.
 *
 * Layers that `ahead` cannot unpack are unpacked later by `caisson image unpack` or `caisson run
 * --image`, which report the error. So `ahead` logs its own errors only at the level debug.
 */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rootless.h"
#include "image/image.h"
#include "image/progress.h"
#include "images/oci/chain.h"
#include "images/oci/follow.h"

#define PIPE_FD STDIN_FILENO

struct ahead_unpacking {
	const struct image_globals *g;
	struct progress bar;
	uint64_t all;
	/*
	 * Whether progress may be shown. The thread that reads the layer sets the member when the
	 * downloads are complete.
	 */
	atomic_bool show;
	bool shown;
	size_t layer;
};

static void warn(void *data, const char *text)
{
	const struct ahead_unpacking *u = data;

	if (!u->g->quiet)
		log_warn("%s", text);
}

static void on_complete(void *data)
{
	struct ahead_unpacking *u = data;

	atomic_store(&u->show, true);
}

/*
 * Returns whether this process may show progress now: not while the bars of the downloads are on
 * the terminal. Initializes the progress line the first time.
 */
static bool may_show(struct ahead_unpacking *u)
{
	if (!atomic_load(&u->show))
		return false;
	if (!u->shown)
		progress_init(&u->bar, false, u->g->quiet || !isatty(STDERR_FILENO), u->all);
	u->shown = true;
	return true;
}

static void on_layer(void *data, size_t index, size_t count, const struct descriptor *d)
{
	struct ahead_unpacking *u = data;

	if (may_show(u))
		progress_layer(&u->bar, index, count, d);
}

static void on_bytes(void *data, uint64_t done)
{
	struct ahead_unpacking *u = data;

	/*
	 * Bytes are shown only after on_layer() has begun the progress line with the name of a
	 * layer.
	 */
	if (u->shown)
		progress_bytes(&u->bar, done);
}

static int describe(const struct store *s, const char *digest, struct descriptor *ret)
{
	struct stat st;

	*ret = (struct descriptor){.media_type = ""};
	int r = digest_parse(digest, "the digest", &ret->digest);
	if (r < 0)
		return r;
	_cleanup_fd_ int fd = store_open_blob(s, &ret->digest, &ret->size);
	if (fd < 0)
		return fd;
	return fstat(fd, &st) < 0 ? err_sys("look at %s", digest) : 0;
}

static int unpack_ahead(
	struct ahead_unpacking *u, struct store *s, struct arena *a, const char *digest)
{
	struct tree_options options = {.warn = warn, .data = u};
	const struct unpack_progress progress = {on_layer, on_bytes, u};
	struct follower f = {.on_complete = on_complete, .data = u};
	_cleanup_strbuf_ struct strbuf layers = {0};
	struct rootless rootless;
	struct descriptor d;
	struct image img;
	int r = describe(s, digest, &d);

	if (r >= 0)
		r = rootless_become_root(&rootless);
	/*
	 * The signal for the death of the parent is set again, because the kernel clears the
	 * setting when a process changes its credentials, as rootless_become_root() does.
	 */
	if (r >= 0 && prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		r = err_sys("set the signal for the end of the parent");
	if (r < 0)
		return r;
	options.squash = rootless.one_id;
	options.squash_reason = rootless.one_id;
	follow_init(&f, s, PIPE_FD);
	r = follow_image(&f, a, &d, &img);
	if (r < 0)
		return r;
	for (size_t i = 0; i < img.document.nlayers; i++)
		u->all += img.document.layers[i].size;
	r = chain_unpack(s, &img, &options, &progress, &layers);
	if (u->shown)
		progress_end(&u->bar);
	return r;
}

int image_cmd_ahead(
	const struct image_command *self, const struct image_globals *g, int argc, char **argv)
{
	const struct option_def defs[] = {{0}};
	struct image_arguments args = {.min = 1, .max = 1};
	struct ahead_unpacking u = {.g = g};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_sys("set the signal for the end of the parent");
	int r = image_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = image_open_store(g, &s);
	if (r >= 0)
		r = unpack_ahead(&u, &s, &a, args.v[0]);
	if (r < 0)
		log_debug("the image is not unpacked yet: %s", err_msg());
	return 0;
}
