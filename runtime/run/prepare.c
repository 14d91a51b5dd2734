/* SPDX-License-Identifier: Apache-2.0 */
#include "run/prepare.h"

#include <stdio.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/overlay.h"
#include "base/rootless.h"
#include "images/oci/chain.h"
#include "images/oci/container_dir.h"
#include "images/oci/image_disk.h"
#include "images/oci/resolved.h"

#define LAYER_NAME_MAX 64

/*
 * Logs, at the level debug, a setting of the image that caisson leaves out. A warning would not
 * help, because the user who runs the container did not make the image.
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
	const struct run_options *o;
	struct store *store;
	struct resolved image;
	struct run run;
};

static int make_dir(const struct preparing *p, const char *name, mode_t mode)
{
	if (mkdirat(p->run.dir_fd, name, mode) < 0)
		return err_sys("create %s/%s", p->run.dir, name);
	int fd = openat(p->run.dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? err_sys("open %s/%s", p->run.dir, name) : fd;
}

static int make_upper(const struct preparing *p)
{
	const char *layers = p->image.layers;
	char top[LAYER_NAME_MAX];

	snprintf(top, sizeof(top), "%.*s", (int)strcspn(layers, ":"), layers);
	_cleanup_fd_ int lower = openat(p->store->layers, top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lower < 0)
		return err_sys("open %s/layers/%s", p->store->path, top);
	_cleanup_fd_ int upper = make_dir(p, "upper", 0755);
	if (upper < 0)
		return upper;
	_cleanup_fd_ int work = make_dir(p, "work", 0700);
	return work < 0 ? work : overlay_copy_root(lower, upper);
}

/*
 * Returns whether the program runs as the user whom the image names, and caisson-image has noted
 * that user's ids.
 */
static bool uses_noted_user(const struct preparing *p)
{
	return !p->o->user && p->image.has_user;
}

/*
 * Returns whether the container has mounts for which a directory of the image may have to be copied
 * into a volume.
 */
static bool may_have_volumes(const struct preparing *p)
{
	return p->o->volume.n || p->o->mount.n || p->image.config.nvolumes;
}

/*
 * Opens the image's tree, in which the container's user is looked up and from which volumes are
 * filled. If the tree is not needed for either, it is not opened, because mounting the layers takes
 * time, and *ret is -EBADF.
 */
static int open_view(const struct preparing *p, int rootfs, int *ret)
{
	*ret = -EBADF;
	if (uses_noted_user(p) && !may_have_volumes(p))
		return 0;
	if (*p->image.layers)
		*ret = chain_open_view(p->store, p->image.layers);
	else if ((*ret = fcntl(rootfs, F_DUPFD_CLOEXEC, 3)) < 0)
		return err_sys("duplicate a descriptor");
	return *ret < 0 ? *ret : 0;
}

/*
 * Finds the disks of an image that contains no program, if the user has given no program either.
 * ret->n is 0 if there is a program to run.
 */
static int find_disks(const struct preparing *p, struct image_disks *ret)
{
	const struct image_config *c = &p->image.config;

	ret->n = 0;
	if (c->nentrypoint + c->ncmd > 0 || *p->o->command || p->o->entrypoint.n ||
		!*p->image.layers)
		return 0;
	return image_disks_find(p->store, p->image.layers, p->run.arena, ret);
}

/*
 * Refuses an image that contains a disk and no program. The error message says where the disk is,
 * because a microVM can boot it.
 */
static int refuse_disk(const struct preparing *p)
{
	struct image_disks disks;

	int r = find_disks(p, &disks);
	if (r < 0 || disks.n == 0)
		return r;
	return err_set(EINVAL,
		"the image has no program to run, but a disk for a microVM, %s: its file is %s: "
		"boot it, as root, with `caisson run --isolation vm --image %s`",
		disks.v[0].path, disks.v[0].file, p->o->image);
}

static int write_config(struct preparing *p, int view)
{
	struct run *r = &p->run;
	const struct image image = {.config = p->image.config};
	const struct run_options *o = p->o;
	_cleanup_json_out_ struct json_out out = {0};
	struct bundle_options b = {.warn = note,
		.rest = put_rest,
		.data = r,
		.keep_root = true,
		.keep_limits = true,
		.capabilities = r->capabilities,
		.user = o->user,
		.ids = uses_noted_user(p) ? &p->image.user : NULL,
		.working_dir = o->workdir,
		.terminal = o->tty,
		.read_only = o->read_only,
		.args = *o->command ? (const char *const *)o->command : NULL,
		.entrypoint = o->entrypoint.n ? o->entrypoint.v[o->entrypoint.n - 1] : NULL};
	struct json *base;
	const char *text;
	size_t len;

	r->image = &image;
	r->root = view;
	int result = run_base_config(r, &base);
	if (result >= 0)
		result = run_environment(r, &b.env);
	if (result >= 0)
		result = json_out_init(&out, false);
	if (result < 0)
		return result;
	b.base = base;
	result = bundle_config(&out, &image, view, &b);
	if (result >= 0)
		result = json_out_text(&out, &text, &len);
	return result < 0 ? result : fd_write_new_file(r->dir_fd, "config.json", text, len, 0600);
}

static int fill(struct preparing *p)
{
	struct run *r = &p->run;
	_cleanup_fd_ int rootfs = make_dir(p, "rootfs", 0755);
	_cleanup_fd_ int view = -EBADF;
	int result = rootfs < 0 ? rootfs : 0;

	if (result >= 0 && !*p->image.layers) {
		const char *path = arena_printf(r->arena, "%s/rootfs", r->dir);
		result = path ? run_helper_unpack(p->o, p->store, p->image.tag, path) : -ENOMEM;
	}
	if (result > 0)
		return result;
	if (result >= 0)
		result = refuse_disk(p);
	if (result >= 0 && *p->image.layers && !run_uses_erofs(p->o))
		result = make_upper(p);
	if (result >= 0)
		result = open_view(p, rootfs, &view);
	if (result >= 0)
		result = run_capabilities(r);
	return result < 0 ? result : write_config(p, view);
}

static int choose_stop_signal(struct preparing *p)
{
	const char *given = p->o->stop_signal;
	const char *text = given ? given : p->image.config.stop_signal;

	if (!text || !*text)
		return 0;
	int r = str_to_signal(text);
	if (r < 0)
		return err_ctx(r, given ? "--stop-signal" : "the image's stop signal");
	p->run.stop_signal = text;
	return 0;
}

/* Sets run.disk to the path of the EROFS image that is the root of the container's microVM. */
static int choose_disk(struct preparing *p)
{
	char name[CHAIN_EROFS_SIZE];

	if (!run_uses_erofs(p->o))
		return 0;
	chain_erofs_name(p->image.layers, name);
	p->run.disk = arena_printf(p->run.arena, "%s/layers/%s", p->store->path, name);
	return p->run.disk ? 0 : -ENOMEM;
}

/*
 * Makes the directory of the container in the store. If anything in the directory cannot be made,
 * removes the directory.
 */
static int make_container(struct preparing *p, const char *name, pid_t maker)
{
	const struct container_uses uses = {.state_root = p->o->state_root,
		.maker = maker,
		.layers = p->image.layers,
		.image = p->o->image,
		.manifest = p->image.manifest};
	char message[ERR_MAX];

	p->run.name = name;
	p->run.hostname = p->o->hostname ? p->o->hostname : arena_strndup(p->run.arena, name, 63);
	p->run.dir = arena_printf(p->run.arena, "%s/containers/%s", p->store->path, name);
	if (!p->run.dir || !p->run.hostname)
		return -ENOMEM;
	int r = choose_stop_signal(p);
	if (r >= 0)
		r = choose_disk(p);
	if (r < 0)
		return r;
	p->run.dir_fd = container_dir_make(p->store, name, &uses);
	if (p->run.dir_fd < 0)
		return p->run.dir_fd;
	r = fill(p);
	if (r == 0)
		return 0;
	snprintf(message, sizeof(message), "%s", err_msg());
	container_dir_remove(p->store, name);
	return r < 0 ? err_set(-r, "%s", message) : r;
}

/*
 * Runs caisson-image, which pulls and unpacks the image if that is needed and writes a note of it,
 * and reads the note. Returns 1 if caisson-image failed; it has printed why.
 */
static int resolve(struct preparing *p)
{
	const struct run_options *o = p->o;
	int r = run_helper_resolve(o, p->store);

	if (r != 0)
		return r;
	r = resolved_read(p->store, p->run.arena, o->image, o->platform, RESOLVED_ANY, &p->image);
	if (r == 0)
		return err_set(EIO,
			"image %.200s: caisson-image has left no note of it in %s/resolved",
			o->image, p->store->path);
	return r < 0 ? r : 0;
}

/* Returns whether the store has the EROFS image of the image's layers, if one is needed. */
static bool has_disk(const struct preparing *p)
{
	char name[CHAIN_EROFS_SIZE];

	if (!run_uses_erofs(p->o))
		return true;
	chain_erofs_name(p->image.layers, name);
	return faccessat(p->store->layers, name, R_OK, 0) == 0;
}

/*
 * Reads the note of the image in the store: its layers and settings. If there is no current note,
 * or if the store lacks an EROFS image that is needed, caisson-image first pulls the image and
 * writes the note.
 */
static int find_image(struct preparing *p)
{
	const struct run_options *o = p->o;
	int r = resolved_read(
		p->store, p->run.arena, o->image, o->platform, RESOLVED_CURRENT, &p->image);

	if (r > 0 && !has_disk(p))
		r = 0;
	if (r != 0)
		return r < 0 ? r : 0;
	return resolve(p);
}

/*
 * Becomes root in a user namespace if the caller is an ordinary user, and notes its id maps for the
 * container. If the image was unpacked with other maps, because the user has other ranges of ids
 * now, caisson-image unpacks it again.
 */
static int become_root(struct preparing *p)
{
	_cleanup_strbuf_ struct strbuf users = {0}, groups = {0};
	char ids[ROOTLESS_KEY_SIZE];
	struct rootless rootless;
	struct run *run = &p->run;
	int r = rootless_become_root(&rootless);

	if (r >= 0)
		r = rootless_key(ids);
	if (r >= 0 && !streq(ids, p->image.ids))
		r = resolve(p);
	if (r != 0 || !rootless.entered)
		return r;
	run->rootless = true;
	r = rootless_read_maps(&users, &groups);
	if (r < 0)
		return r;
	run->maps = (struct spec_user_maps){arena_strdup(run->arena, strbuf_str(&users)),
		arena_strdup(run->arena, strbuf_str(&groups))};
	return run->maps.users && run->maps.groups ? 0 : -ENOMEM;
}

bool run_uses_erofs(const struct run_options *o)
{
	return o->root_disk && streq(o->root_disk, "erofs");
}

static int set_bundle(const struct store *s, struct arena *a, const char *name, const char *layers,
	struct run_bundle *ret)
{
	ret->dir = arena_printf(a, "%s/containers/%s", s->path, name);
	ret->layers = *layers ? arena_printf(a, "%s/layers:%s", s->path, layers) : NULL;
	return ret->dir && (ret->layers || !*layers) ? 0 : -ENOMEM;
}

int run_prepare(const struct run_options *o, struct arena *a, const char *name, pid_t maker,
	struct run_bundle *ret)
{
	_cleanup_store_ struct store s = STORE_INIT;
	struct preparing p = {.o = o,
		.store = &s,
		.run = {.o = o, .arena = a, .dir_fd = -EBADF, .store = &s, .volumes_lock = -EBADF}};
	int r = store_open(&s, o->store, STORE_SYNC);

	if (r >= 0)
		r = find_image(&p);
	if (r == 0)
		r = become_root(&p);
	if (r == 0)
		r = make_container(&p, name, maker);
	fd_close(&p.run.dir_fd);
	fd_close(&p.run.volumes_lock);
	return r != 0 ? r : set_bundle(&s, a, name, run_uses_erofs(o) ? "" : p.image.layers, ret);
}

int run_has_disk(const struct run_options *o, struct arena *a, bool *ret_has)
{
	_cleanup_store_ struct store s = STORE_INIT;
	struct preparing p = {.o = o, .store = &s, .run = {.arena = a}};
	struct image_disks disks = {0};
	int r = store_open(&s, o->store, STORE_SYNC);

	if (r >= 0)
		r = find_image(&p);
	if (r == 0)
		r = find_disks(&p, &disks);
	*ret_has = r == 0 && disks.n > 0;
	return r;
}

int run_find_bundle(
	const struct run_options *o, struct arena *a, const char *name, struct run_bundle *ret)
{
	_cleanup_store_ struct store s = STORE_INIT;
	struct container_uses uses;
	int r = store_open(&s, o->store, STORE_SYNC);

	if (r >= 0)
		r = container_dir_read(&s, a, name, &uses);
	return r < 0 ? r : set_bundle(&s, a, name, run_uses_erofs(o) ? "" : uses.layers, ret);
}

void run_remove_bundle(const struct run_options *o, const char *name)
{
	_cleanup_store_ struct store s = STORE_INIT;

	if (store_open(&s, o->store, STORE_SYNC) >= 0 && container_dir_is_needed(&s, name) == 0)
		container_dir_remove(&s, name);
}
