/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps hard links of lower layers together in an overlay mount.
 *
 * If a layer links a new name to a file of a lower layer, overlayfs copies the file up under the
 * name that was used for the link. The file's other names keep the inode of the lower layer,
 * although in a plain tree all of them would be one file. This code links the other names to the
 * copy too.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "base/path.h"
#include "images/oci/tree_internal.h"

#define DEPTH_MAX 1000 /* how many levels of directories are searched */
#define NAMES_MAX 4000000u
#define TEMPORARY ".wh..caisson-link" /* name of a temporary link; no layer can contain it */

struct link_name {
	uint64_t inode;
	/*
	 * path of one of the file's names; NULL: this name has been linked to the file's copy
	 * already
	 */
	char *path;
};

/* All names of those files in the lower layers that have more than one name, sorted by inode. */
struct links {
	struct link_name *v;
	size_t n, cap;
};

static int add_name(struct links *l, uint64_t inode, const char *path)
{
	if (l->n == NAMES_MAX)
		return err_set(E2BIG, "more than %u names of hard links", NAMES_MAX);
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		struct link_name *v = reallocarray(l->v, cap, sizeof(*v));
		if (!v)
			return err_set(ENOMEM, "out of memory");
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n].path = strdup(path);
	if (!l->v[l->n].path)
		return err_set(ENOMEM, "out of memory");
	l->v[l->n++].inode = inode;
	return 0;
}

/*
 * Adds to *l the names of files with several names that are in the directory fd or below it, and
 * closes fd. `path` is the path of the directory; the function appends the names of the entries to
 * `path` in place.
 */
static int collect(struct links *l, int fd, char path[PATH_MAX], int depth)
{
	size_t len = strlen(path);
	DIR *d = dir_take_fd(fd);
	struct dirent *e;
	struct stat st;
	int r = 0;

	if (!d)
		return err_sys("read the directory %s", path);
	while (r >= 0 && (e = readdir(d))) {
		int n = snprintf(path + len, PATH_MAX - len, "%s%s", len ? "/" : "", e->d_name);
		if (streq(e->d_name, ".") || streq(e->d_name, "..") || n >= PATH_MAX - (int)len ||
			fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (!S_ISDIR(st.st_mode)) {
			r = st.st_nlink > 1 ? add_name(l, st.st_ino, path) : 0;
		} else if (depth < DEPTH_MAX) {
			int sub = openat(
				fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			r = sub < 0 ? 0 : collect(l, sub, path, depth + 1);
		}
	}
	path[len] = '\0';
	closedir(d);
	return r;
}

static int compare(const void *a, const void *b)
{
	const struct link_name *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

int links_find(struct tree *t, const struct stat *target)
{
	char path[PATH_MAX] = "";

	if (!t->options->merged || target->st_nlink < 2 || t->links)
		return 0;
	t->links = calloc(1, sizeof(*t->links));
	if (!t->links)
		return err_set(ENOMEM, "out of memory");
	int root = path_open(t->root, ".", O_RDONLY | O_DIRECTORY);
	int r = root < 0 ? root : collect(t->links, root, path, 0);
	if (r >= 0 && t->links->n)
		qsort(t->links->v, t->links->n, sizeof(*t->links->v), compare);
	return r;
}

/*
 * Overlayfs has copied up a file of a lower layer. Replaces `path`, another name of that file, by a
 * hard link to the copy, which is dir/name.
 */
static int relink(struct tree *t, const char *path, int dir, const char *name)
{
	const char *slash = strrchr(path, '/');
	const char *last = slash ? slash + 1 : path;
	char above[PATH_MAX] = ".";

	if (slash)
		snprintf(above, sizeof(above), "%.*s", (int)(slash - path), path);
	_cleanup_fd_ int parent = path_open(t->root, above, O_PATH | O_DIRECTORY);
	if (parent < 0)
		return parent;
	int r = tree_note_parent(t, parent, above);
	if (r < 0)
		return r;
	if (linkat(dir, name, parent, TEMPORARY, 0) < 0)
		return err_sys("link %s to %s", path, name);
	if (renameat(parent, TEMPORARY, parent, last) < 0)
		return err_sys("replace %s by a link", path);
	/*
	 * rename(2) does nothing if both of its names are links to one file, so the name TEMPORARY
	 * may still exist.
	 */
	if (unlinkat(parent, TEMPORARY, 0) < 0 && errno != ENOENT)
		return err_sys("remove a temporary link of %s", path);
	return 0;
}

int links_keep(struct tree *t, const struct stat *target, int dir, const char *name)
{
	const struct link_name key = {.inode = target->st_ino};
	struct links *l = t->links;
	struct stat st;

	if (!t->options->merged || target->st_nlink < 2 || !l || !l->n)
		return 0;
	struct link_name *found = bsearch(&key, l->v, l->n, sizeof(*l->v), compare);
	while (found && found > l->v && found[-1].inode == key.inode)
		found--;
	for (; found && found < l->v + l->n && found->inode == key.inode; found++) {
		if (!found->path)
			continue;
		/*
		 * Each other name of the file is opened before it is replaced by a link, because
		 * the present layer may have removed that name or given it to another file.
		 */
		_cleanup_fd_ int fd = path_open(t->root, found->path, O_PATH | O_NOFOLLOW);
		if (fd >= 0 && fstat(fd, &st) == 0 && st.st_ino == target->st_ino) {
			int r = relink(t, found->path, dir, name);
			if (r < 0)
				return r;
		}
		free(found->path);
		found->path = NULL;
	}
	err_clear();
	return 0;
}

void links_free(struct links *l)
{
	for (size_t i = 0; l && i < l->n; i++)
		free(l->v[i].path);
	if (l)
		free(l->v);
	free(l);
}
