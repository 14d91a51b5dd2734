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

/* Says whether the volume is a disk, and notes it. A microVM has one such disk. */
static int note_disk(struct run *r, const char *name)
{
	const char *path;

	if (r->volumes_lock < 0)
		r->volumes_lock = volumes_lock(r->store, true);
	int result = r->volumes_lock;
	if (result >= 0)
		result = volume_find_disk(r->store, r->arena, name, &path);
	if (result < 0 || !path)
		return result < 0 ? result : 0;
	if (!r->o->isolation || !streq(r->o->isolation, "vm"))
		return err_set(ENOTSUP,
			"-v %s: the volume is a qcow2 disk, which only a microVM mounts: add "
			"--isolation vm, or use a volume of the pool dir",
			name);
	if (r->disk)
		return err_set(ENOTSUP,
			"-v %s: the volume is a disk, and so is the root (--root-disk erofs): a "
			"microVM takes one disk",
			name);
	if (r->volume_disk && !streq(r->volume_disk, path))
		return err_set(ENOTSUP,
			"-v %s: a microVM takes one volume that is a disk, and has another one",
			name);
	r->volume_disk = path;
	return 1;
}

/* Returns the name of the volume in a value of --mount, or NULL. */
static char *mount_volume_name(struct arena *a, const char *text)
{
	char *copy = arena_strdup(a, text), *save, *name = NULL;
	bool volume = true; /* the type of a mount without type= */

	for (char *w = copy ? strtok_r(copy, ",", &save) : NULL; w;
		w = strtok_r(NULL, ",", &save)) {
		if (str_starts(w, "type="))
			volume = streq(w, "type=volume");
		if (str_starts(w, "source=") || str_starts(w, "src="))
			name = strchr(w, '=') + 1;
	}
	return volume ? name : NULL;
}

int run_find_volume_disk(struct run *r)
{
	int result = 0;

	for (size_t i = 0; i < r->o->volume.n && result >= 0; i++) {
		char *name = arena_strdup(r->arena, r->o->volume.v[i]);
		char *end = name ? strchr(name, ':') : NULL;
		if (!end || *name == '/' || *name == '.')
			continue;
		*end = '\0';
		result = note_disk(r, name);
	}
	for (size_t i = 0; i < r->o->mount.n && result >= 0; i++) {
		const char *name = mount_volume_name(r->arena, r->o->mount.v[i]);
		if (name)
			result = note_disk(r, name);
	}
	return result < 0 ? result : 0;
}

int run_use_volume(
	struct run *r, const char *name, const char *destination, bool copy, const char **ret)
{
	static const char *const no_labels[] = {NULL};

	int result = note_disk(r, name);
	if (result > 0) {
		*ret = SPEC_MOUNT_IMAGE;
		return 0;
	}
	if (result >= 0)
		result = volume_make(r->store, name, no_labels);
	if (result >= 0 && copy)
		result = fill(r, name, destination);
	if (result < 0)
		return result;
	*ret = volume_path(r->store, r->arena, name);
	return *ret ? 0 : -ENOMEM;
}
