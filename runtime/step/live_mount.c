/* SPDX-License-Identifier: Apache-2.0 */
#include "step/live_mount.h"

#include <inttypes.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/vfs.h>

#include "base/arena.h"
#include "base/path.h"
#include "step/mnt.h"

#define MOUNTINFO_MAX (1 << 20)
/* how deep mounts may be beneath a mount that is removed; bounds the time that a search takes */
#define DEPTH_MAX 32

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

static int make_point(int parent, const char *name, bool directory)
{
	return directory ? mkdirat(parent, name, 0755) : mknodat(parent, name, S_IFREG | 0644, 0);
}

/*
 * Makes a mount point in a file system of the container's user namespace that does not map this
 * process's ids, such as the container's /dev. It gets the owner of the directory.
 */
static int make_as_owner(int parent, const char *name, bool directory)
{
	struct stat st;

	if (fstat(parent, &st) < 0)
		return -1;
	const int group = setfsgid(st.st_gid), user = setfsuid(st.st_uid);
	int r = make_point(parent, name, directory);
	const int code = errno;
	setfsuid((uid_t)user);
	setfsgid((gid_t)group);
	errno = code;
	return r;
}

static int make_target(int parent, const char *name, bool directory, const char *target)
{
	int r = make_point(parent, name, directory);

	if (r < 0 && errno == EOVERFLOW)
		r = make_as_owner(parent, name, directory);
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

/* --- the mounts beneath one that is removed --- */

/* A line of mountinfo. */
struct line {
	uint64_t id, parent; /* id is 0 if the mount was removed */
	char *point;         /* path of the mount point, in which blanks are written as \ooo */
};

struct lines {
	struct line *v;
	size_t n;
};

static int parse_lines(struct arena *a, char *text, struct lines *ret)
{
	char *save = NULL;
	size_t most = 0;

	for (const char *p = text; *p; p++)
		most += *p == '\n';
	*ret = (struct lines){.v = arena_array(a, most, sizeof(*ret->v))};
	if (!ret->v)
		return -ENOMEM;
	for (char *l = strtok_r(text, "\n", &save); l && ret->n < most;
		l = strtok_r(NULL, "\n", &save)) {
		struct line *m = &ret->v[ret->n];
		int at = 0;

		if (sscanf(l, "%" SCNu64 " %" SCNu64 " %*s %*s %n", &m->id, &m->parent, &at) < 2 ||
			!at)
			continue;
		m->point = l + at;
		m->point[strcspn(m->point, " ")] = '\0';
		ret->n++;
	}
	return 0;
}

static struct line *find_child(const struct lines *l, uint64_t id)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].id && l->v[i].parent == id && l->v[i].id != id)
			return &l->v[i];
	return NULL;
}

/* Finds a mount beneath the mount `id`, at any depth, that has none beneath itself. */
static struct line *find_leaf(const struct lines *l, uint64_t id)
{
	struct line *leaf = find_child(l, id);

	for (int depth = 0; leaf && depth < DEPTH_MAX; depth++) {
		struct line *below = find_child(l, leaf->id);
		if (!below)
			break;
		leaf = below;
	}
	return leaf;
}

/* The mount is named by a path, because an open descriptor of it would make it busy. */
static int unmount(int parent, const char *name)
{
	return fchdir(parent) < 0 || umount2(name, UMOUNT_NOFOLLOW) < 0 ? -errno : 0;
}

/*
 * Unmounts a mount of the container. The container could replace a directory of the path by a link
 * that leads to another mount, such as one that hides a file of /proc. So links are refused, and
 * the mount has to be the one with the id of *m.
 */
static int unmount_line(int root, struct line *m)
{
	struct statx st;

	str_unescape(m->point);
	char *slash = strrchr(m->point, '/');
	if (!slash)
		return -EINVAL;
	*slash = '\0';
	_cleanup_fd_ int dir =
		path_open_nolinks(root, *m->point ? m->point : "/", O_PATH | O_DIRECTORY);
	if (dir < 0)
		return dir;
	if (statx(dir, slash + 1, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_MNT_ID, &st) < 0 ||
		!(st.stx_mask & STATX_MNT_ID) || st.stx_mnt_id != m->id)
		return -EBUSY;
	m->id = 0;
	return unmount(dir, slash + 1);
}

/*
 * Unmounts what is mounted beneath parent/name: the copies of the mounts beneath the source, which
 * came with the source, and what the container has mounted there. Fails if one of them is in use.
 */
static int unmount_below(int proc, int parent, const char *name)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	struct lines lines = {0};
	struct statx st;

	_cleanup_fd_ int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 || statx(parent, name, AT_SYMLINK_NOFOLLOW, STATX_MNT_ID, &st) < 0 ||
		!(st.stx_mask & STATX_MNT_ID))
		return -EBUSY;
	int r = fd_read_file(proc, "mountinfo", &text, MOUNTINFO_MAX);
	if (r >= 0)
		r = text.s ? parse_lines(&a, text.s, &lines) : -EBUSY;
	while (r >= 0) {
		struct line *leaf = find_leaf(&lines, st.stx_mnt_id);
		if (!leaf)
			return 0;
		r = unmount_line(root, leaf);
	}
	return r;
}

int live_mount_detach(int ns, const char *target, const struct stat *is)
{
	const char *name;
	struct stat st;
	int r;

	/* This procfs is the caller's, because the container may hide or replace its own. */
	_cleanup_fd_ int proc = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (proc < 0)
		return err_sys("open /proc/self");
	_cleanup_fd_ int parent = open_parent(ns, target, &name);
	if (parent < 0)
		return parent;
	if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != is->st_dev ||
		st.st_ino != is->st_ino)
		return err_set(ENOENT, "target %s: another mount is there, or none", target);
	r = unmount(parent, name);
	/* A mount with others beneath itself counts as busy, so these are removed first. */
	if (r == -EBUSY && unmount_below(proc, parent, name) >= 0)
		r = unmount(parent, name);
	if (r == -EBUSY)
		return err_set(EBUSY, "target %s: a process of the container uses it", target);
	return r < 0 ? err_set(-r, "target %s: unmount it: %s", target, err_text(-r)) : 0;
}
