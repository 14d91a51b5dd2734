/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removes parts of a tree by descriptor, and never follows a link. A hostile tree may be nested
 * deeper than this process has descriptors: what lies deeper than DEPTH_MAX is moved into the
 * directory where the removal began, and removed from there.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "images/oci/tree_internal.h"

#define DEPTH_MAX 200

struct remover {
	const struct seen *keep;
	int top; /* descriptor of the directory where the removal began */
	unsigned moved;
	bool again; /* something was moved into `top`, so another round is needed */
};

static int clear(struct remover *r, int owned, int depth);

static int move_up(struct remover *r, int dir, const char *name)
{
	char moved[64];

	if (r->keep)
		return err_set(ELOOP, "directories are nested deeper than %d", DEPTH_MAX);
	for (;;) {
		snprintf(moved, sizeof(moved), ".caisson-removed-%u", r->moved++);
		if (renameat2(dir, name, r->top, moved, RENAME_NOREPLACE) == 0)
			break;
		if (errno != EEXIST)
			return err_sys("move the directory %s to remove it", name);
	}
	r->again = true;
	return 0;
}

static int remove_at(struct remover *r, int dir, const char *name, int depth)
{
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return err_sys("remove %s", name);
	if (depth == DEPTH_MAX)
		return move_up(r, dir, name);
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_sys("open the directory %s to remove it", name);
	int result = clear(r, fd, depth + 1);
	if (result < 0)
		return result;
	if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	/*
	 * The directory is not empty, which is expected: it contains files that this layer wrote,
	 * or files that were moved here and that the next round removes.
	 */
	if ((r->keep || r->again) && (errno == ENOTEMPTY || errno == EEXIST))
		return 0;
	return err_sys("remove the directory %s", name);
}

/* Clears a subdirectory that this layer itself made. Files in it may come from lower layers. */
static int clear_kept(struct remover *r, int dir, const char *name, int depth)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOTDIR || errno == ELOOP || errno == ENOENT || errno == ENXIO
			       ? 0
			       : err_sys("open the directory %s", name);
	if (depth == DEPTH_MAX) {
		fd_close(&fd);
		return err_set(ELOOP, "directories are nested deeper than %d", DEPTH_MAX);
	}
	return clear(r, fd, depth + 1);
}

/* Removes the contents of a directory. Closes the descriptor `owned`, which is open on it. */
static int clear(struct remover *r, int owned, int depth)
{
	struct stat st;
	struct dirent *e;
	int result = 0;
	DIR *d = fdopendir(owned);

	if (!d) {
		result = err_sys("read a directory to remove it");
		fd_close(&owned);
		return result;
	}
	if (fstat(owned, &st) < 0)
		result = err_sys("look at a directory to remove it");
	while (result >= 0 && (e = readdir(d))) {
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		result = seen_has(r->keep, st.st_ino, e->d_name)
				 ? clear_kept(r, owned, e->d_name, depth)
				 : remove_at(r, owned, e->d_name, depth);
	}
	closedir(d);
	return result;
}

/*
 * Returns `keep`, or NULL if the layer has written nothing yet: no name must then be kept, and
 * files may be moved.
 */
static const struct seen *seen_any(const struct seen *keep)
{
	return keep && !seen_is_empty(keep) ? keep : NULL;
}

int tree_remove(int dir, const char *name, const struct seen *keep)
{
	struct remover r = {.keep = seen_any(keep)};
	struct stat st;

	if (keep && fstat(dir, &st) == 0 && seen_has(keep, st.st_ino, name))
		return clear_kept(&r, dir, name, 0);
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	_cleanup_fd_ int top = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (top < 0)
		return err_sys("open the directory %s to remove it", name);
	r.top = top;
	int result;
	do {
		r.again = false;
		result = remove_at(&r, dir, name, 0);
	} while (result >= 0 && r.again);
	return result;
}

int tree_clear(int dir, const struct seen *keep)
{
	struct remover r = {.keep = seen_any(keep), .top = dir};
	int result;

	do {
		int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (copy < 0)
			return err_sys("open a directory to empty it");
		r.again = false;
		result = clear(&r, copy, 0);
	} while (result >= 0 && r.again);
	return result;
}
