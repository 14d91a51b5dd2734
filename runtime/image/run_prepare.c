/* SPDX-License-Identifier: Apache-2.0 */
#include "image/run_prepare.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/log.h"
#include "image/progress.h"
#include "images/oci/chain.h"
#include "images/oci/container_dir.h"

#define LAYER_NAME_MAX 64

static void warn(void *data, const char *text)
{
	log_warn("%s", text);
}

/*
 * Logs what is left out of the image, at the level debug. Whoever runs the container did not make
 * the image, so a warning would not help.
 */
static void note(void *data, const char *text)
{
	log_debug("%s", text);
}

static int put_rest(void *data, struct json_out *o)
{
	return run_put_rest(data, o);
}

struct preparing {
	const struct image_globals *g;
	const struct run_options *o;
	struct store *store;
	struct image *img;
	struct tree_options options;
	struct run run;
	struct strbuf layers; /* empty: the root is a copy of the image */
};

static void release(struct preparing *p)
{
	fd_close(&p->run.dir_fd);
	strbuf_release(&p->layers);
}

/*
 * Unpacks the layers with a progress bar: into the directory root, or into the store if root is -1.
 */
static int unpack(struct preparing *p, int root)
{
	struct progress bar;
	const struct unpack_progress progress = {progress_layer, progress_bytes, &bar};
	uint64_t all = 0;

	for (size_t i = 0; i < p->img->document.nlayers; i++)
		all += p->img->document.layers[i].size;
	/*
	 * The progress is shown on a terminal only, because there a user waits for the container.
	 */
	progress_init(&bar, false, p->g->quiet || !isatty(STDERR_FILENO), all);
	int r = root < 0 ? chain_unpack(p->store, p->img, &p->options, &progress, &p->layers)
			 : image_unpack(p->store, p->img, root, &p->options, &progress);
	progress_end(&bar);
	return r;
}

static int make_dir(const struct preparing *p, const char *name, mode_t mode)
{
	if (mkdirat(p->run.dir_fd, name, mode) < 0)
		return err_sys("create %s/%s", p->run.dir, name);
	int fd = openat(p->run.dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_sys("open %s/%s", p->run.dir, name) : fd;
}

static int make_upper(const struct preparing *p)
{
	const char *layers = strbuf_str(&p->layers);
	char top[LAYER_NAME_MAX];

	snprintf(top, sizeof(top), "%.*s", (int)strcspn(layers, ":"), layers);
	_cleanup_fd_ int lower = openat(p->store->layers, top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lower < 0)
		return err_sys("open %s/layers/%s", p->store->path, top);
	_cleanup_fd_ int upper = make_dir(p, "upper", 0755);
	if (upper < 0)
		return upper;
	_cleanup_fd_ int work = make_dir(p, "work", 0700);
	return work < 0 ? work : chain_copy_root(lower, upper);
}

static int write_config(struct preparing *p, int root)
{
	struct run *r = &p->run;
	const struct run_options *o = p->o;
	_cleanup_json_out_ struct json_out out = {0};
	struct bundle_options b = {.warn = note,
		.rest = put_rest,
		.data = r,
		.keep_root = true,
		.keep_limits = true,
		.capabilities = r->capabilities,
		.user = o->user,
		.working_dir = o->workdir,
		.terminal = o->tty,
		.read_only = o->read_only,
		.args = *o->command ? (const char *const *)o->command : NULL,
		.entrypoint = o->entrypoint.n ? o->entrypoint.v[o->entrypoint.n - 1] : NULL};
	struct json *base;
	const char *text;
	size_t len;

	r->image = p->img;
	r->root = root;
	int result = run_base_config(r, &base);
	if (result >= 0)
		result = run_environment(r, &b.env);
	if (result >= 0)
		result = json_out_init(&out, false);
	if (result < 0)
		return result;
	b.base = base;
	result = bundle_config(&out, p->img, root, &b);
	if (result >= 0)
		result = json_out_text(&out, &text, &len);
	return result < 0 ? result : fd_replace_file(r->dir_fd, "config.json", text, len, 0600);
}

static int fill(struct preparing *p)
{
	struct run *r = &p->run;
	_cleanup_fd_ int rootfs = make_dir(p, "rootfs", 0755);
	if (rootfs < 0)
		return rootfs;
	int result = p->layers.len ? make_upper(p) : unpack(p, rootfs);
	/*
	 * The image's passwd and group are read from the stacked layers, as the container will see
	 * them.
	 */
	_cleanup_fd_ int view = result >= 0 && p->layers.len
					? chain_open_view(p->store, strbuf_str(&p->layers))
					: -EBADF;
	if (result >= 0 && p->layers.len && view < 0)
		result = view;
	if (result >= 0)
		result = run_capabilities(r);
	return result < 0 ? result : write_config(p, p->layers.len ? view : rootfs);
}

static int choose_stop_signal(struct preparing *p)
{
	const char *given = p->o->stop_signal;
	const char *text = given ? given : p->img->config.stop_signal;

	if (!text || !*text)
		return 0;
	int r = str_to_signal(text);
	if (r < 0)
		return err_ctx(r, given ? "--stop-signal" : "the image's stop signal");
	p->run.stop_signal = text;
	return 0;
}

/* Makes the container's directory, and removes it if anything in it cannot be made. */
static int make_container(struct preparing *p, const char *name, pid_t maker)
{
	const struct container_uses uses = {.state_root = p->o->state_root,
		.maker = maker,
		.layers = strbuf_str(&p->layers),
		.image = p->o->image,
		.manifest = p->img->manifest.digest};
	char message[ERR_MAX];

	p->run.name = name;
	p->run.hostname = p->o->hostname ? p->o->hostname : arena_strndup(p->run.arena, name, 63);
	p->run.dir = arena_printf(p->run.arena, "%s/containers/%s", p->store->path, name);
	if (!p->run.dir || !p->run.hostname)
		return -ENOMEM;
	int r = choose_stop_signal(p);
	if (r < 0)
		return r;
	p->run.dir_fd = container_dir_make(p->store, name, &uses);
	if (p->run.dir_fd < 0)
		return p->run.dir_fd;
	r = fill(p);
	if (r >= 0)
		return 0;
	snprintf(message, sizeof(message), "%s", err_msg());
	container_dir_remove(p->store, name);
	return err_set(-r, "%s", message);
}

/*
 * Unpacks the layers into the store. If overlayfs cannot stack them, the container gets a copy of
 * the image.
 */
static int unpack_layers(struct preparing *p)
{
	int r = unpack(p, -EBADF);

	if (r != -EOPNOTSUPP)
		return r;
	log_debug("%s: the image is copied for this container", err_msg());
	err_clear();
	strbuf_reset(&p->layers);
	return 0;
}

int run_prepare(
	const struct image_globals *g, const struct run_options *o, const char *name, pid_t maker)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_store_ struct store s = STORE_INIT;
	struct platform buf;
	const struct platform *platform;
	struct image img;
	__attribute__((cleanup(release))) struct preparing p = {.g = g,
		.o = o,
		.store = &s,
		.img = &img,
		.run = {.o = o, .arena = &a, .dir_fd = -EBADF, .uid = geteuid(), .gid = getegid()}};

	int r = image_platform(&a, o->platform, &buf, &platform);
	/*
	 * The store's path depends on the caller's user id, so it is opened before that id changes.
	 */
	if (r >= 0)
		r = image_open_store(g, &s);
	if (r >= 0)
		r = image_become_root(&p.run.rootless);
	if (r >= 0)
		r = image_get(g, &s, &a, o->image, platform, &img);
	if (r < 0)
		return r;
	p.options = (struct tree_options){.warn = g->quiet ? NULL : warn, .squash = p.run.rootless};
	r = unpack_layers(&p);
	return r < 0 ? r : make_container(&p, name, maker);
}

int run_find_bundle(
	const struct image_globals *g, struct arena *a, const char *name, struct run_bundle *ret)
{
	_cleanup_store_ struct store s = STORE_INIT;
	struct container_uses uses;
	int r = image_open_store(g, &s);

	if (r >= 0)
		r = container_dir_read(&s, a, name, &uses);
	if (r < 0)
		return r;
	ret->dir = arena_printf(a, "%s/containers/%s", s.path, name);
	ret->layers = *uses.layers ? arena_printf(a, "%s/layers:%s", s.path, uses.layers) : NULL;
	return ret->dir && (ret->layers || !*uses.layers) ? 0 : -ENOMEM;
}

void run_remove_bundle(const struct image_globals *g, const char *name)
{
	_cleanup_store_ struct store s = STORE_INIT;

	if (image_open_store(g, &s) >= 0 && container_dir_is_needed(&s, name) == 0)
		container_dir_remove(&s, name);
}
