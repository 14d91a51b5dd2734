/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/chain.h"

#include <limits.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/overlay.h"
#include "base/remove.h"
#include "base/sys.h"
#include "images/oci/store_internal.h"

#define NAME_LEN 5
#define NAME_TRIES 100
/* name of the directory in STORE/layers that stands for the layers of an image without layers */
#define EMPTY_CHAIN "empty"

/*
 * Returns whether the error `code` of overlay_mount() means that overlayfs cannot be used on this
 * host.
 */
static bool is_unsupported(int code)
{
	return code == EPERM || code == EACCES || code == ENODEV || code == EINVAL ||
	       code == EOPNOTSUPP || code == ENOSYS;
}

int chain_id(const struct image *img, size_t index, struct digest *ret)
{
	char text[2 * DIGEST_TEXT_SIZE];
	int r = 0;

	*ret = img->config.diff_ids[0];
	for (size_t i = 1; i <= index && r >= 0; i++) {
		int n = snprintf(
			text, sizeof(text), "%s %s", ret->text, img->config.diff_ids[i].text);
		r = digest_of(DIGEST_SHA256, text, (size_t)n, ret);
	}
	return r;
}

/*
 * Looks up, in STORE/chains, the chain of layers with the key `key`. Returns 1 with the name of the
 * topmost layer's directory in `ret`, or 0 if the store does not have this chain.
 */
static int find(const struct store *s, const char *key, char ret[NAME_LEN + 1])
{
	ssize_t n = readlinkat(s->chains, key, ret, NAME_LEN + 1);

	if (n < 0)
		return errno == ENOENT ? 0 : err_sys("read %s/chains/%s", s->path, key);
	if (n != NAME_LEN || memchr(ret, '/', NAME_LEN) || memchr(ret, ':', NAME_LEN))
		return err_set(EINVAL, "%s/chains/%s is damaged: remove it", s->path, key);
	ret[NAME_LEN] = '\0';
	return 1;
}

/* Makes a directory with a new random name in STORE/layers. */
static int make_layer_dir(const struct store *s, char ret[NAME_LEN + 1])
{
	static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	unsigned char random[NAME_LEN];

	for (int i = 0; i < NAME_TRIES; i++) {
		if (getrandom(random, sizeof(random), 0) != sizeof(random))
			return err_sys("get random bytes");
		for (int k = 0; k < NAME_LEN; k++)
			ret[k] = digits[random[k] % (sizeof(digits) - 1)];
		ret[NAME_LEN] = '\0';
		if (mkdirat(s->layers, ret, 0755) == 0) {
			int fd = openat(s->layers, ret, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			return fd < 0 ? err_sys("open %s/layers/%s", s->path, ret) : fd;
		}
		if (errno != EEXIST)
			return err_sys("create %s/layers/%s", s->path, ret);
	}
	return err_set(EEXIST, "no free name for a layer in %s/layers", s->path);
}

struct unpacking {
	const struct store *s;
	const struct image *img;
	const struct tree_options *options;
	const struct unpack_progress *progress;
	/* names of the layers below the one that is being unpacked, with ":" in between */
	struct strbuf *lower;
};

/*
 * Mounts an overlay on top of the layers u->lower. What is then written to the mount gets into the
 * overlay's upper directory `name`, which becomes the next layer.
 */
static int mount_above(const struct unpacking *u, const char *name, int upper)
{
	char work[NAME_LEN + sizeof(".work")];
	char below[NAME_LEN + 1];
	_cleanup_strbuf_ struct strbuf upper_path = {0}, work_path = {0};
	_cleanup_strbuf_ struct strbuf layers = {0};

	snprintf(below, sizeof(below), "%.*s", NAME_LEN, strbuf_str(u->lower));
	_cleanup_fd_ int lower = openat(u->s->layers, below, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (lower < 0)
		return err_sys("open %s/layers/%s", u->s->path, below);
	int r = overlay_copy_root(lower, upper);
	snprintf(work, sizeof(work), "%s.work", name);
	if (r >= 0 && mkdirat(u->s->layers, work, 0700) < 0)
		r = err_sys("create %s/layers/%s", u->s->path, work);
	if (r >= 0)
		r = strbuf_addf(&layers, "%s/layers", u->s->path);
	if (r >= 0)
		r = strbuf_addf(&upper_path, "%s/%s", strbuf_str(&layers), name);
	if (r >= 0)
		r = strbuf_addf(&work_path, "%s/%s", strbuf_str(&layers), work);
	if (r < 0)
		return r;
	const struct overlay o = {.dir = strbuf_str(&layers),
		.lower = strbuf_str(u->lower),
		.upper = strbuf_str(&upper_path),
		.work = strbuf_str(&work_path),
		.userxattr = sys_in_userns()};
	r = overlay_mount(&o);
	if (r < 0 && is_unsupported(-r))
		return err_set(EOPNOTSUPP, "%s", err_msg());
	return r;
}

/* Unpacks layer `index` into the new directory `name`, whose descriptor is `dir`. */
static int unpack_into(const struct unpacking *u, size_t index, const char *name, int dir)
{
	_cleanup_fd_ int overlay = index ? mount_above(u, name, dir) : -EBADF;

	if (index && overlay < 0)
		return overlay;
	struct tree_options options = *u->options;
	options.merged = index > 0;
	int r = image_apply_layer(
		u->s, u->img, index, index ? overlay : dir, &options, u->progress);
	if (r >= 0 && u->s->sync == STORE_SYNC && syncfs(dir) < 0)
		r = err_sys("sync the layer in %s", u->s->path);
	return r;
}

static int remove_work(const struct store *s, const char *name)
{
	char work[NAME_LEN + sizeof(".work")];

	snprintf(work, sizeof(work), "%s.work", name);
	return remove_tree(s->layers, work, NULL);
}

/*
 * Finds out whether overlayfs works above the lowest layer, before the layer gets a link in
 * STORE/chains by which other processes find it. A higher layer needs no such check, because it was
 * itself unpacked through an overlay mount.
 */
static int probe(const struct unpacking *u, const char *lowest)
{
	_cleanup_strbuf_ struct strbuf lower = {0};
	struct unpacking above = *u;
	char name[NAME_LEN + 1], message[ERR_MAX];

	above.lower = &lower;
	int r = strbuf_addf(&lower, "%s", lowest);
	if (r < 0)
		return r;
	_cleanup_fd_ int upper = make_layer_dir(u->s, name);
	if (upper < 0)
		return upper;
	_cleanup_fd_ int mounted = mount_above(&above, name, upper);
	snprintf(message, sizeof(message), "%s", err_msg());
	fd_close(&upper);
	int result = mounted < 0 ? mounted : 0;
	fd_close(&mounted);
	r = remove_work(u->s, name);
	if (r >= 0)
		r = remove_tree(u->s->layers, name, NULL);
	return result < 0 ? err_set(-result, "%s", message) : r;
}

/*
 * Unpacks layer `index` of the image. The caller holds the lock of the chain that ends with this
 * layer.
 */
static int unpack_one(
	const struct unpacking *u, size_t index, const char *key, char name[NAME_LEN + 1])
{
	char message[ERR_MAX];
	_cleanup_fd_ int dir = make_layer_dir(u->s, name);

	if (dir < 0)
		return dir;
	int r = unpack_into(u, index, name, dir);
	if (r >= 0)
		r = index ? remove_work(u->s, name) : probe(u, name);
	if (r >= 0 && symlinkat(name, u->s->chains, key) < 0)
		r = err_sys("create %s/chains/%s", u->s->path, key);
	if (r >= 0 && u->s->sync == STORE_SYNC && fsync(u->s->chains) < 0)
		r = err_sys("sync %s/chains", u->s->path);
	if (r >= 0)
		return 0;
	/*
	 * Errors of removing the layer's directory are ignored, because store_gc() removes the
	 * directory later if it is still there.
	 */
	snprintf(message, sizeof(message), "%s", err_msg());
	(void)!remove_work(u->s, name);
	(void)!remove_tree(u->s->layers, name, NULL);
	return err_set(-r, "%s", message);
}

static int lock_chain(const struct store *s, const char *key)
{
	char name[sizeof("chain-") + CHAIN_KEY_SIZE];

	snprintf(name, sizeof(name), "chain-%s", key);
	_cleanup_fd_ int fd = openat(s->partial, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_sys("open %s/partial/%s", s->path, name);
	int r = store_lock_file(fd, LOCK_EX);
	return r < 0 ? err_set(-r, "lock %s/partial/%s: %s", s->path, name, err_text(-r))
		     : take_fd(&fd);
}

/* Makes the name, in STORE/chains, of the chain of the image's layers 0 to `index`. */
static int chain_key(const struct image *img, size_t index, char ret[CHAIN_KEY_SIZE])
{
	char ids[ROOTLESS_KEY_SIZE];
	struct digest id;
	int r = chain_id(img, index, &id);

	if (r >= 0)
		r = rootless_key(ids);
	if (r >= 0)
		snprintf(ret, CHAIN_KEY_SIZE, "%s-%s%s%s", digest_algorithm_name(id.algorithm),
			digest_hex(&id), *ids ? "." : "", ids);
	return r;
}

static int unpack_if_missing(const struct unpacking *u, size_t index, char name[NAME_LEN + 1])
{
	char key[CHAIN_KEY_SIZE];
	int r = chain_key(u->img, index, key);

	if (r >= 0)
		r = find(u->s, key, name);
	if (r != 0)
		return r;
	_cleanup_fd_ int lock = lock_chain(u->s, key);
	if (lock < 0)
		return lock;
	/*
	 * The chain is looked up a second time, because another process may have unpacked it while
	 * this process waited for the lock.
	 */
	r = find(u->s, key, name);
	return r != 0 ? r : unpack_one(u, index, key, name);
}

static int put_on_top(struct strbuf *lower, const char *name)
{
	_cleanup_strbuf_ struct strbuf below = *lower;

	*lower = (struct strbuf){0};
	return strbuf_addf(lower, "%s%s%s", name, below.len ? ":" : "", strbuf_str(&below));
}

int chain_unpack(const struct store *s, const struct image *img, const struct tree_options *options,
	const struct unpack_progress *progress, struct strbuf *ret)
{
	const struct unpacking u = {s, img, options, progress, ret};
	char name[NAME_LEN + 1];
	int r = image_check_layers(img);

	if (r >= 0 && img->document.nlayers > OVERLAY_LOWER_MAX)
		r = err_set(E2BIG, "the image has %zu layers: overlayfs stacks %u at most",
			img->document.nlayers, OVERLAY_LOWER_MAX);
	if (r >= 0 && img->document.nlayers == 0) {
		if (mkdirat(s->layers, EMPTY_CHAIN, 0755) < 0 && errno != EEXIST)
			return err_sys("create %s/layers/" EMPTY_CHAIN, s->path);
		return strbuf_addf(ret, EMPTY_CHAIN);
	}
	for (size_t i = 0; i < img->document.nlayers && r >= 0; i++) {
		r = unpack_if_missing(&u, i, name);
		if (r >= 0)
			r = put_on_top(ret, name);
	}
	return r;
}

int chain_find(const struct store *s, const struct image *img, struct strbuf *ret)
{
	char key[CHAIN_KEY_SIZE], name[NAME_LEN + 1];
	int r = image_check_layers(img);

	for (size_t i = 0; r >= 0 && i < img->document.nlayers; i++) {
		r = chain_key(img, i, key);
		if (r >= 0)
			r = find(s, key, name);
		if (r == 0)
			return 0;
		if (r > 0)
			r = put_on_top(ret, name);
	}
	return r < 0 ? r : ret->len > 0;
}
