/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/image_disk.h"

#include <dirent.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/path.h"
#include "images/oci/chain.h"

#define DISK_DIR "disk"

static bool is_disk_name(const char *name)
{
	static const char *const ends[] = {".qcow2", ".raw", ".img"};

	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (str_ends(name, ends[i]))
			return true;
	return false;
}

/*
 * Finds the file /disk/NAME in the topmost layer that has a file of this name. Sets *ret and
 * returns 1, or returns 0 if no layer has such a file or the file is no regular file.
 */
static int find_file(const struct store *s, const char *layers, struct arena *a, const char *name,
	struct image_disk *ret)
{
	char path[PATH_MAX];
	struct stat st;

	for (const char *p = layers; *p;) {
		int len = (int)strcspn(p, ":");
		int n = snprintf(path, sizeof(path), "%.*s/" DISK_DIR "/%s", len, p, name);
		_cleanup_fd_ int fd = n >= (int)sizeof(path) ? -ENAMETOOLONG
							     : path_open_nolinks(s->layers, path,
								       O_PATH | O_NOFOLLOW);
		if (fd >= 0 && fstat(fd, &st) == 0) {
			if (!S_ISREG(st.st_mode))
				break;
			*ret = (struct image_disk){arena_printf(a, "/" DISK_DIR "/%s", name),
				arena_printf(a, "%s/layers/%s", s->path, path),
				(uint64_t)st.st_size};
			return ret->path && ret->file ? 1 : -ENOMEM;
		}
		p += len + (p[len] == ':');
	}
	err_clear();
	return 0;
}

static int only_disks(const struct dirent *e)
{
	return is_disk_name(e->d_name);
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

int image_disks_find(
	const struct store *s, const char *layers, struct arena *a, struct image_disks *ret)
{
	struct dirent **names = NULL;
	int r = 0;

	*ret = (struct image_disks){.v = arena_array(a, IMAGE_DISKS_MAX, sizeof(*ret->v))};
	if (!ret->v)
		return -ENOMEM;
	_cleanup_fd_ int view = chain_open_view(s, layers);
	if (view < 0)
		return view;
	_cleanup_fd_ int dir = path_open_nolinks(view, DISK_DIR, O_RDONLY | O_DIRECTORY);
	if (dir < 0) {
		err_clear();
		return 0;
	}
	int n = scandirat(dir, ".", &names, only_disks, by_bytes);
	if (n < 0)
		return err_sys("read the image's /" DISK_DIR);
	for (int i = 0; i < n; i++) {
		if (r >= 0 && ret->n < IMAGE_DISKS_MAX) {
			r = find_file(s, layers, a, names[i]->d_name, &ret->v[ret->n]);
			ret->n += r > 0;
		}
		free(names[i]);
	}
	free(names);
	return r < 0 ? r : 0;
}
