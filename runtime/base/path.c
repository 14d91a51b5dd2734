/* SPDX-License-Identifier: Apache-2.0 */
#include "path.h"

#include <linux/magic.h>
#include <stdlib.h>
#include <sys/vfs.h>

#include "sys.h"

#define PROC_ROOT_INODE 1 /* PROC_ROOT_INO in the kernel's include/linux/proc_fs.h */
#define OPEN_RETRIES 64

int path_open(int root, const char *path, int flags)
{
	const uint64_t resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;

	/* The kernel answers EAGAIN when a rename raced with "..": try again, but not for ever. */
	for (int i = 0; i < OPEN_RETRIES; i++) {
		int fd = sys_openat2(root, path, (uint64_t)flags | O_CLOEXEC, 0, resolve);
		if (fd >= 0)
			return fd;
		if (errno != EAGAIN && errno != EINTR)
			break;
	}
	return err_sys("open %s", path);
}

/*
 * Walks component by component, since mkdirat(2) has no RESOLVE_IN_ROOT: every existing prefix is resolved
 * anew from the root, and a new directory is made in the directory that was just opened and nowhere else.
 */
int path_mkdirs(int root, const char *path)
{
	size_t len = strlen(path);
	_cleanup_free_ char *prefix = malloc(len + 2);

	if (!prefix)
		return err_set(ENOMEM, "out of memory");
	_cleanup_fd_ int dir = path_open(root, path, O_PATH | O_DIRECTORY);
	if (dir != -ENOENT)
		return take_fd(&dir);
	dir = path_open(root, ".", O_PATH | O_DIRECTORY);
	for (size_t at = 0; dir >= 0;) {
		while (path[at] == '/')
			at++;
		if (!path[at])
			return take_fd(&dir);
		size_t end = at + strcspn(path + at, "/");
		memcpy(prefix, path, end);
		prefix[end] = '\0';
		int next = path_open(root, prefix, O_PATH | O_DIRECTORY);
		if (next == -ENOENT) {
			/* A dangling symbolic link also ends here: mkdirat() then says EEXIST. */
			if (mkdirat(dir, prefix + at, 0755) < 0 && errno != EEXIST)
				return err_sys("create directory %s", prefix);
			next = path_open(root, prefix, O_PATH | O_DIRECTORY);
		}
		fd_close(&dir);
		dir = next;
		at = end;
	}
	return dir;
}

int path_parent(int root, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	if (!*name || streq(name, ".") || streq(name, ".."))
		return err_set(EINVAL, "%s does not end in a file name", path);
	_cleanup_free_ char *parent =
		slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	if (!parent)
		return err_set(ENOMEM, "out of memory");
	*ret_name = name;
	return path_mkdirs(root, parent);
}

int path_mkfile(int root, const char *path)
{
	const char *name;
	int fd = path_open(root, path, O_PATH);

	if (fd != -ENOENT)
		return fd;
	_cleanup_fd_ int dir = path_parent(root, path, &name);
	if (dir < 0)
		return dir;
	_cleanup_fd_ int made =
		openat(dir, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_RDONLY, 0644);
	if (made < 0 && errno != EEXIST)
		return err_sys("create file %s", path);
	return path_open(root, path, O_PATH);
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
	int fd = sys_openat2(proc, path, (uint64_t)flags | O_CLOEXEC | O_NOCTTY, 0, resolve);

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
