/* SPDX-License-Identifier: Apache-2.0 */
#include "step/live_mount.h"

#include <linux/magic.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "base/path.h"
#include "step/mnt.h"

/* Enters the container, and opens the directory that has the last component of `target`. */
static int open_parent(int ns, const char *target, const char **ret_name)
{
	if (target[0] != '/')
		return err_set(EINVAL, "target %s: expected an absolute path", target);
	if (setns(ns, CLONE_NEWNS) < 0)
		return err_sys("enter the container's mount namespace");
	_cleanup_fd_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return err_sys("open the container's root");
	int r = path_parent(root, target, ret_name);
	return r < 0 ? err_ctx(r, "target") : r;
}

static int make_target(int parent, const char *name, bool directory, const char *target)
{
	int r = directory ? mkdirat(parent, name, 0755) : mknodat(parent, name, S_IFREG | 0644, 0);

	if (r < 0 && errno != EEXIST)
		return err_sys("target %s: make the mount point", target);
	int fd = openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? err_sys("target %s", target) : fd;
}

/*
 * Refuses a target that is a link, a device or a mount, is of another type, or is in /proc or /sys.
 */
static int check_target(int fd, bool directory, const char *target)
{
	struct statx st;
	struct statfs fs;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &st) < 0 || fstatfs(fd, &fs) < 0)
		return err_sys("target %s", target);
	if (directory ? !S_ISDIR(st.stx_mode) : !S_ISREG(st.stx_mode))
		return err_set(directory ? ENOTDIR : EEXIST, "target %s: expected a %s", target,
			directory ? "directory, as the source is" : "regular file, or none");
	if (st.stx_attributes & STATX_ATTR_MOUNT_ROOT)
		return err_set(EBUSY, "target %s: it is a mount already", target);
	if (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC)
		return err_set(EPERM, "target %s: expected one outside of /proc and /sys", target);
	return 0;
}

int live_mount_attach(int ns, int tree, const char *target)
{
	const char *name;
	struct stat st;

	if (fstat(tree, &st) < 0)
		return err_sys("stat the source");
	const bool directory = S_ISDIR(st.st_mode);
	_cleanup_fd_ int parent = open_parent(ns, target, &name);
	if (parent < 0)
		return parent;
	_cleanup_fd_ int at = make_target(parent, name, directory, target);
	int r = at < 0 ? at : check_target(at, directory, target);
	if (r < 0)
		return r;
	return mnt_attach(tree, at) < 0 ? err_sys("target %s: attach the mount", target) : 0;
}

int live_mount_detach(int ns, const char *target, const struct stat *is)
{
	const char *name;
	struct stat st;

	_cleanup_fd_ int parent = open_parent(ns, target, &name);
	if (parent < 0)
		return parent;
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != is->st_dev ||
		st.st_ino != is->st_ino)
		return err_set(ENOENT, "target %s: another mount is there, or none", target);
	/* The mount is named by a path, because an open descriptor of it would make it busy. */
	if (fchdir(parent) < 0)
		return err_sys("target %s", target);
	if (umount2(name, UMOUNT_NOFOLLOW) == 0)
		return 0;
	if (errno == EBUSY)
		return err_set(EBUSY, "target %s: a process of the container uses it", target);
	return err_sys("target %s: unmount it", target);
}
