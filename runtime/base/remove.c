/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removes trees. A hostile tree may have more levels than this process has descriptors. Therefore a
 * directory that is deeper than DEPTH_MAX is moved to the directory in which the removal began, and
 * is removed there later. overlayfs refuses to move a directory of a lower layer (EXDEV). In that
 * case the removal uses a descriptor for each level.
 */
#include "base/remove.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"

#define DEPTH_MAX 200
#define DEPTH_MAX_UNMOVED 4000

struct remover {
	const struct remove_keep *keep;
	int top; /* descriptor of the directory in which the removal began */
	unsigned moved;
	bool again; /* a directory was moved into `top`, so another round is needed */
};

static int clear(struct remover *r, int owned, int depth);

static bool keeps(const struct remove_keep *k, uint64_t dir, const char *name)
{
	return k && k->has(k->data, dir, name);
}

/*
 * Moves a directory up to `top`, the directory in which the removal began. Returns 1 if the file
 * system refuses to move the directory (EXDEV).
 */
static int move_up(struct remover *r, int dir, const char *name)
{
	char moved[64];

	if (r->keep)
		return err_set(ELOOP, "directories are nested deeper than %d", DEPTH_MAX);
	for (;;) {
		snprintf(moved, sizeof(moved), ".caisson-removed-%u", r->moved++);
		if (renameat2(dir, name, r->top, moved, RENAME_NOREPLACE) == 0)
			break;
		if (errno == EXDEV)
			return 1;
		if (errno != EEXIST)
			return err_sys("move the directory %s to remove it", name);
	}
	r->again = true;
	return 0;
}

/*
 * Opens a directory whose entries are to be removed. If this process is not root, sets the
 * directory's mode to 0700, because another mode may forbid the owner to read the directory or to
 * remove its entries.
 */
static int open_to_remove(int dir, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dir, name, flags);

	if (fd >= 0 && geteuid() != 0)
		(void)!fchmod(fd, 0700);
	if (fd >= 0 || errno != EACCES)
		return fd;
	_cleanup_fd_ int path = openat(dir, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char proc[40];
	if (path < 0)
		return -1;
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", path);
	return chmod(proc, 0700) < 0 ? -1 : openat(dir, name, flags);
}

static int remove_at(struct remover *r, int dir, const char *name, int depth)
{
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return err_sys("remove %s", name);
	int result = depth >= DEPTH_MAX ? move_up(r, dir, name) : 1;
	if (result <= 0)
		return result;
	if (depth == DEPTH_MAX_UNMOVED)
		return err_set(ELOOP, "directories are nested deeper than %d", DEPTH_MAX_UNMOVED);
	int fd = open_to_remove(dir, name);
	if (fd < 0)
		return err_sys("open the directory %s to remove it", name);
	result = clear(r, fd, depth + 1);
	if (result < 0)
		return result;
	if (unlinkat(dir, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	/*
	 * A directory that is not empty is no error in two cases: it holds files that the caller
	 * wants to keep, or it holds directories that were moved into it and that the next round
	 * removes.
	 */
	if ((r->keep || r->again) && (errno == ENOTEMPTY || errno == EEXIST))
		return 0;
	return err_sys("remove the directory %s", name);
}

/*
 * Removes the contents of a directory of which the caller keeps the directory itself. Files in it
 * that the caller keeps stay too.
 */
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

/*
 * Removes the contents of the directory to which the descriptor `owned` refers, and closes `owned`.
 */
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
		result = keeps(r->keep, st.st_ino, e->d_name)
				 ? clear_kept(r, owned, e->d_name, depth)
				 : remove_at(r, owned, e->d_name, depth);
	}
	closedir(d);
	return result;
}

int remove_tree(int dir, const char *name, const struct remove_keep *keep)
{
	struct remover r = {.keep = keep};
	struct stat st;

	if (keep && fstat(dir, &st) == 0 && keeps(keep, st.st_ino, name))
		return clear_kept(&r, dir, name, 0);
	if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
		return 0;
	_cleanup_fd_ int top = open_to_remove(dir, name);
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

int remove_all_in(int dir, const struct remove_keep *keep)
{
	struct remover r = {.keep = keep, .top = dir};
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
