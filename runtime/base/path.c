/* SPDX-License-Identifier: Apache-2.0 */
#include "base/path.h"

#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/vfs.h>

#include "base/sys.h"

/* the inode of the root of a procfs: the kernel's PROC_ROOT_INO, from include/linux/proc_fs.h */
#define PROC_ROOT_INODE 1
#define OPEN_RETRIES 64
/* how many symbolic links one lookup may follow: as many as in the kernel (MAXSYMLINKS) */
#define MAX_LINKS 40

/*
 * Opens path beneath root like path_open(). If that fails, returns -errno, but sets no error
 * message.
 */
static int open_quiet(int root, const char *path, int flags, uint64_t resolve)
{
	resolve |= RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
	/*
	 * The kernel answers EAGAIN if a rename raced with a ".." in the path. The lookup is
	 * repeated a limited number of times, because the renames may be an attack.
	 */
	for (int i = 0; i < OPEN_RETRIES; i++) {
		int fd = sys_openat2(root, path, (uint64_t)flags | O_CLOEXEC, 0, resolve);
		if (fd >= 0)
			return fd;
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	return -errno;
}

int path_open(int root, const char *path, int flags)
{
	int fd = open_quiet(root, path, flags, 0);

	return fd < 0 ? err_set(-fd, "open %s: %s", path, err_text(-fd)) : fd;
}

int path_open_nolinks(int root, const char *path, int flags)
{
	int fd = open_quiet(root, path, flags, RESOLVE_NO_SYMLINKS);

	return fd < 0 ? err_set(-fd, "open %s: %s", path, err_text(-fd)) : fd;
}

/*
 * Replaces a symbolic link in a path by the link's target. The bytes path[at, at+len) are the name
 * of the link, and dir is the directory that path[0, at) names. Returns the new path, which the
 * caller must resolve from the root again. Returns NULL and sets errno on failure; EINVAL means
 * that the name is no link, or that another process has replaced the link in the meantime.
 */
static char *replace_link(int dir, const char *path, size_t at, size_t len)
{
	char name[NAME_MAX + 1], target[PATH_MAX];
	char *ret = NULL;

	if (len > NAME_MAX) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	memcpy(name, path + at, len);
	name[len] = '\0';
	ssize_t n = readlinkat(dir, name, target, sizeof(target));
	if (n < 0)
		return NULL;
	bool absolute = target[0] == '/';
	if (asprintf(&ret, "%.*s%.*s%s", absolute ? 0 : (int)at, path, (int)n, target,
		    path + at + len) < 0)
		return NULL;
	if (strlen(ret) >= PATH_MAX) {
		free(ret);
		errno = ENAMETOOLONG;
		return NULL;
	}
	return ret;
}

/*
 * Makes one attempt to make the missing directories of a path, component by component, because
 * mkdirat(2) has no RESOLVE_IN_ROOT. Resolves every existing prefix of the path anew from the root,
 * and makes a new directory only in the directory that was just opened. If a component is a
 * dangling link, returns -ELOOP and sets *ret_path to the path that the caller tries instead.
 */
static int mkdirs_walk(int root, const char *path, char **ret_path)
{
	char prefix[PATH_MAX];

	if (strlen(path) >= sizeof(prefix))
		return err_set(ENAMETOOLONG, "create directory %.64s...: %s", path,
			err_text(ENAMETOOLONG));
	_cleanup_fd_ int dir = path_open(root, ".", O_PATH | O_DIRECTORY);
	for (size_t at = 0; dir >= 0;) {
		while (path[at] == '/')
			at++;
		if (!path[at])
			return take_fd(&dir);
		size_t end = at + strcspn(path + at, "/");
		memcpy(prefix, path, end);
		prefix[end] = '\0';
		int next = open_quiet(root, prefix, O_PATH | O_DIRECTORY, 0);
		if (next == -ENOENT) {
			if (mkdirat(dir, prefix + at, 0755) < 0 && errno != EEXIST)
				return err_sys("create directory %s", prefix);
			next = open_quiet(root, prefix, O_PATH | O_DIRECTORY, 0);
			if (next == -ENOENT) {
				*ret_path = replace_link(dir, path, at, end - at);
				if (*ret_path)
					return -ELOOP;
			}
		}
		if (next < 0)
			return err_set(-next, "create directory %s: %s", prefix, err_text(-next));
		fd_close(&dir);
		dir = next;
		at = end;
	}
	return dir;
}

int path_mkdirs(int root, const char *path)
{
	_cleanup_free_ char *owned = NULL;
	int fd = open_quiet(root, path, O_PATH | O_DIRECTORY, 0);

	if (fd >= 0)
		return fd;
	if (fd != -ENOENT)
		return err_set(-fd, "open directory %s: %s", path, err_text(-fd));
	for (int i = 0; i < MAX_LINKS; i++) {
		char *next = NULL;
		fd = mkdirs_walk(root, owned ? owned : path, &next);
		if (!next)
			return fd;
		free(owned);
		owned = next;
	}
	return err_set(ELOOP, "create directory %s: too many symbolic links", path);
}

int path_parent(int root, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (!*name || streq(name, ".") || streq(name, ".."))
		return err_set(EINVAL, "%s does not end in a file name", path);
	/*
	 * The copy of the path is on the stack, because caisson-init calls this function for each
	 * device and link, and would otherwise allocate memory each time.
	 */
	char parent[PATH_MAX] = ".";
	size_t len = (size_t)(name - path);
	if (len >= sizeof(parent))
		return err_set(ENAMETOOLONG, "open %.64s...: %s", path, err_text(ENAMETOOLONG));
	if (slash) {
		memcpy(parent, path, len);
		parent[len] = '\0';
	}
	*ret_name = name;
	return path_mkdirs(root, parent);
}

/*
 * Makes one attempt to open or create the file at `path`. If path is a dangling link, returns
 * -ELOOP and sets *ret_path to the path that the caller tries instead.
 */
static int mkfile_walk(int root, const char *path, char **ret_path)
{
	const char *name;
	int fd = open_quiet(root, path, O_PATH, 0);

	if (fd >= 0)
		return fd;
	if (fd != -ENOENT)
		return err_set(-fd, "open %s: %s", path, err_text(-fd));
	_cleanup_fd_ int dir = path_parent(root, path, &name);
	if (dir < 0)
		return dir;
	_cleanup_fd_ int made =
		openat(dir, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_RDONLY, 0644);
	if (made >= 0)
		return path_open(root, path, O_PATH);
	if (errno != EEXIST)
		return err_sys("create file %s", path);
	*ret_path = replace_link(dir, path, (size_t)(name - path), strlen(name));
	return *ret_path ? -ELOOP : path_open(root, path, O_PATH);
}

int path_mkfile(int root, const char *path)
{
	_cleanup_free_ char *owned = NULL;

	for (int i = 0; i < MAX_LINKS; i++) {
		char *next = NULL;
		int fd = mkfile_walk(root, owned ? owned : path, &next);
		if (!next)
			return fd;
		free(owned);
		owned = next;
	}
	return err_set(ELOOP, "create file %s: too many symbolic links", path);
}

int path_open_proc(void)
{
	_cleanup_fd_ int fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct statfs fs;
	struct stat st;

	if (fd < 0)
		return err_sys("open /proc");
	if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
		return err_sys("stat /proc");
	if (fs.f_type != PROC_SUPER_MAGIC || st.st_ino != PROC_ROOT_INODE)
		return err_set(
			EINVAL, "/proc on this host is not a proc file system: mount one there");
	return take_fd(&fd);
}

int path_open_in_proc(int proc, const char *path, int flags)
{
	const uint64_t resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
	/*
	 * O_NOCTTY is left out if O_PATH is set, because openat2(2) refuses O_NOCTTY together with
	 * O_PATH, and O_PATH does not open a terminal anyway.
	 */
	const uint64_t more = O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY);
	int fd = sys_openat2(proc, path, (uint64_t)flags | more, 0, resolve);

	if (fd < 0 && errno == EXDEV)
		return err_sys("open /proc/%s: something is mounted over it", path);
	return fd < 0 ? err_sys("open /proc/%s", path) : fd;
}

int path_write_proc(int proc, const char *path, const char *text)
{
	_cleanup_fd_ int fd = path_open_in_proc(proc, path, O_WRONLY);

	if (fd < 0)
		return fd;
	if (write(fd, text, strlen(text)) < 0)
		return err_sys("write \"%s\" to /proc/%s", text, path);
	return 0;
}

/*
 * Unmounts everything that lies over the new root. After pivot_root(2) the old root is mounted over
 * the new one, and older mounts, such as the new root of an earlier pivot_root(2), lie over the old
 * root. A lookup of a path that starts with "/" begins below all of these mounts. A ".." from "/"
 * stays at "/" but, as after every component of a path, the lookup continues on the topmost mount
 * there. So "/.." is the mount to remove next.
 */
static int unmount_above(int root)
{
	struct statx ours, top;

	if (statx(root, "", AT_EMPTY_PATH, STATX_MNT_ID, &ours) < 0)
		return err_sys("look at the new root");
	for (;;) {
		if (statx(AT_FDCWD, "/..", 0, STATX_MNT_ID, &top) < 0)
			return err_sys("look at the old root");
		if (top.stx_mnt_id == ours.stx_mnt_id)
			return 0;
		if (umount2("/..", MNT_DETACH) < 0)
			return err_sys("unmount the old root");
	}
}

int path_pivot(int root)
{
	if (fchdir(root) < 0 || sys_pivot_root(".", ".") < 0)
		return err_sys("change the root");
	int r = unmount_above(root);
	if (r < 0)
		return r;
	return chdir("/") < 0 ? err_sys("enter the new root") : 0;
}
