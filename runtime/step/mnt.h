/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the mount steps share. A mount is made detached, gets its attributes, and is attached last,
 * so that no other process ever sees it half done. A target is an O_PATH descriptor, so that what
 * was checked is what is mounted on.
 *
 * The inline functions return -1 and errno, as the system calls do.
 */
#pragma once
#include <limits.h>

#include "base/sys.h"
#include "step/step.h"

/* Makes a detached copy of what is mounted at fd, or of the part of it that fd is. */
static inline int mnt_clone(int fd, bool recursive)
{
	return open_tree(fd, "",
		AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
			(recursive ? AT_RECURSIVE : 0));
}

/* Attaches a detached mount. Afterwards tree is a descriptor of the attached mount's root. */
static inline int mnt_attach(int tree, int target)
{
	return move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static inline int mnt_setattr(int fd, bool recursive, const struct mount_attr *attr)
{
	return mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0),
		(struct mount_attr *)attr, sizeof(*attr));
}

/* Sets MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE, with MS_REC or without. */
static inline int mnt_set_propagation(int fd, uint32_t propagation)
{
	struct mount_attr attr = {.propagation = propagation & ~(uint32_t)MS_REC};

	return mnt_setattr(fd, propagation & MS_REC, &attr);
}

/* What a mount is put on. */
struct mnt_target {
	int fd;              /* O_PATH */
	bool existed;        /* there was something before a mount point was made */
	struct stat st;      /* of fd */
	char path[PATH_MAX]; /* the destination without "//", "." and ".." */
};

/* mnt.c: what several files of this folder need. */

/* Writes the path to ret without "//", "." and "..": "/a//b/../c/" becomes "/a/c". */
int mnt_clean_path(const char *path, char ret[static PATH_MAX]) must_check;

/* Rewords an error of base/path.h about a path in the container; r is what it returned. */
int mnt_path_error(int r, const char *what, const char *path);

/* Sets attr_set, attr_clr and their recursive sisters on a detached or attached mount. */
int mnt_apply_attrs(int tree, const struct spec_mount *m) must_check;

/*
 * Makes dir/name a symbolic link to target. Returns 1 if it was made, and 0 if something has that
 * name. path is for messages.
 */
int mnt_try_symlink(int dir, const char *name, const char *path, const char *target) must_check;
bool mnt_is_link_to(int dir, const char *name, const char *target);

/*
 * Makes a symbolic link in the root. The same link may be there already; anything else there is an
 * error.
 */
int mnt_symlink(const struct step_ctx *c, const char *path, const char *target) must_check;

/* mount_fs.c: a detached mount of a new file system for a MOUNT step, with its attributes. */
int mnt_new_fs(struct step_ctx *c, const struct step *s, const struct mnt_target *t) must_check;

/*
 * new_fs.c: changes the options of the file system mounted at fd. This is the part of "remount"
 * that is not about the attributes of the mount.
 */
int mnt_reconfigure(int fd, const struct spec_mount *m) must_check;

/* copyup.c: copies the content of the directory `from` into `to`, recursively. `from` may be any
 * descriptor of the directory. */
int mnt_copy_up(int from, int to) must_check;

/*
 * console.c: opens /dev/console (O_PATH) to mount something on it. Makes a file there if there is
 * nothing.
 */
int mnt_console_target(int root) must_check;

/* A mount that PIVOT makes read-only, because something is still put into it until then. */
struct step_late_ro {
	struct step_late_ro *next;
	int fd;
	const char *field;
};
