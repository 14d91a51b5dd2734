/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the container's volumes, those without a name and those with one, and fills them from the
 * image.
 */
#include <stdio.h>
#include <sys/stat.h>

#include "base/copy.h"
#include "base/path.h"
#include "images/oci/volumes.h"
#include "run/run.h"

/*
 * Opens the image's directory `path`, from which a volume is filled. Symbolic links are followed
 * inside of the image's root. Returns -ENOENT, without a message, if the image has nothing at that
 * path.
 */
static int open_source(const struct run *r, const char *path)
{
	int fd = path_open(r->root, path, O_RDONLY | O_DIRECTORY);

	if (fd >= 0)
		return fd;
	if (fd == -ENOENT) {
		err_clear();
		return fd;
	}
	if (fd == -ENOTDIR)
		return err_set(ENOTDIR,
			"the volume on %.200s: the image has a file there, or on the way there, "
			"and "
			"a volume needs a directory",
			path);
	return err_ctx(fd, "the volume on %.200s", path);
}

int run_make_volume(struct run *r, size_t index, const char *destination, const char **ret)
{
	char name[32];

	snprintf(name, sizeof(name), "volume%zu", index);
	if (mkdirat(r->dir_fd, name, 0755) < 0)
		return err_sys("create %s/%s", r->dir, name);
	*ret = arena_printf(r->arena, "%s/%s", r->dir, name);
	if (!*ret)
		return -ENOMEM;
	_cleanup_fd_ int from = open_source(r, destination);
	if (from < 0)
		return from == -ENOENT ? 0 : from;
	_cleanup_fd_ int to = openat(r->dir_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (to < 0)
		return err_sys("open %s", *ret);
	int result = copy_tree_with_root(from, to);
	return result < 0 ? err_ctx(result, "the volume on %.200s", destination) : 0;
}

static int fill(const struct run *r, const char *name, const char *destination)
{
	int empty = volume_is_empty(r->store, name);

	if (empty <= 0)
		return empty;
	_cleanup_fd_ int from = open_source(r, destination);
	if (from < 0)
		return from == -ENOENT ? 0 : from;
	int result = volume_fill(r->store, name, from);
	return result < 0 ? err_ctx(result, "the volume \"%s\" on %.200s", name, destination) : 0;
}

int run_use_volume(
	struct run *r, const char *name, const char *destination, bool copy, const char **ret)
{
	static const char *const no_labels[] = {NULL};

	if (r->volumes_lock < 0)
		r->volumes_lock = volumes_lock(r->store, true);
	int result = r->volumes_lock < 0 ? r->volumes_lock : volume_make(r->store, name, no_labels);
	if (result >= 0 && copy)
		result = fill(r, name, destination);
	if (result < 0)
		return result;
	*ret = volume_path(r->store, r->arena, name);
	return *ret ? 0 : -ENOMEM;
}
