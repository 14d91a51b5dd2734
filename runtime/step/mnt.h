/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the mount steps share. Mounts are made detached, get their attributes, and are attached
 * last: nobody ever sees one half done. Targets are O_PATH descriptors, so that what was checked is
 * what is mounted on.
 *
 * The wrappers return -1 and errno, as the system calls do.
 */
#pragma once
#include <limits.h>

#include "base/sys.h"
#include "step/step.h"

/* A detached copy of what is mounted at fd, or of the part of it that fd is. */
static inline int mnt_clone(int fd, bool recursive)
{
	return open_tree(fd, "",
		AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
			(recursive ? AT_RECURSIVE : 0));
}

/* Attaches a detached mount. tree then is a descriptor of the attached mount's root. */
static inline int mnt_attach(int tree, int target)
{
	return move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static inline int mnt_setattr(int fd, bool recursive, const struct mount_attr *attr)
{
	return mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0),
		(struct mount_attr *)attr, sizeof(*attr));
}

/* MS_SHARED, ... with MS_REC or not. */
static inline int mnt_set_propagation(int fd, uint32_t propagation)
{
	struct mount_attr attr = {.propagation = propagation & ~(uint32_t)MS_REC};

	return mnt_setattr(fd, propagation & MS_REC, &attr);
}

/* Rewords an error of base/path.h about a path in the container; r is what it returned. */
int mnt_path_error(int r, const char *what, const char *path);

/* Where a mount goes. */
struct mnt_target {
	int fd;              /* O_PATH */
	bool existed;        /* before it was made as a mount point */
	struct stat st;      /* of fd */
	char path[PATH_MAX]; /* the destination without "//", "." and ".." */
};

/* "/a//b/../c/" to "/a/c". */
int mnt_clean_path(const char *path, char ret[static PATH_MAX]) must_check;

/* Sets attr_set, attr_clr, their recursive sisters, on a detached or attached mount. */
int mnt_apply_attrs(int tree, const struct spec_mount *m) must_check;

/* mount_fs.c: a detached mount of a new file system for a MOUNT step, with its attributes. */
int mnt_new_fs(struct step_ctx *c, const struct step *s, const struct mnt_target *t) must_check;

/* Reconfigures the file system mounted at fd: the part of "remount" that is not about mount
 * attributes. */
int mnt_reconfigure(int fd, const struct spec_mount *m) must_check;

/* mount_fs.c: where the host has cgroup2 mounted. */
const char *mnt_host_cgroup2(void);

/* device.c: a symbolic link in the root, made unless it is there; anything else there is an error.
 */
int mnt_symlink(const struct step_ctx *c, const char *path, const char *target) must_check;

/* copyup.c: copies the content of directory `from` (any descriptor of it) into `to`, recursively.
 */
int mnt_copy_up(int from, int to) must_check;

/* A mount that PIVOT makes read-only: until then there is something to be put into it. */
struct step_late_ro {
	struct step_late_ro *next;
	int fd;
	const char *field;
};
int mnt_late_ro(struct step_ctx *c, const struct step *s, int tree) must_check;

/* console.c: /dev/console as something to mount on; O_PATH. */
int mnt_console_target(int root) must_check;
