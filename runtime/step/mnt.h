/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Functions that all mount steps share. A mount is made detached, gets its attributes, and is
 * attached last, so that no other process ever sees it incomplete. The target of a mount is an
 * O_PATH descriptor, so that the mount is put on the very file that was checked.
 *
 * The inline functions return -1 and set errno on failure, as the system calls do.
 */
#pragma once
#include <limits.h>

#include "base/sys.h"
#include "step/step.h"

/*
 * Makes a detached copy of the mount to which fd refers. If fd is a directory within the mount, the
 * copy has only what is beneath this directory.
 */
static inline int mnt_clone(int fd, bool recursive)
{
	return open_tree(fd, "",
		AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
			(recursive ? AT_RECURSIVE : 0));
}

/*
 * Attaches the detached mount `tree` on `target`. Afterwards the descriptor `tree` refers to the
 * root of the attached mount.
 */
static inline int mnt_attach(int tree, int target)
{
	return move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static inline int mnt_setattr(int fd, bool recursive, const struct mount_attr *attr)
{
	return mount_setattr(fd, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0),
		(struct mount_attr *)attr, sizeof(*attr));
}

/*
 * Sets the propagation of the mount fd to MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE; with
 * MS_REC, also of all mounts beneath it.
 */
static inline int mnt_set_propagation(int fd, uint32_t propagation)
{
	struct mount_attr attr = {.propagation = propagation & ~(uint32_t)MS_REC};

	return mnt_setattr(fd, propagation & MS_REC, &attr);
}

/* The file or directory on which a mount is put. */
struct mnt_target {
	int fd; /* O_PATH descriptor of the file or directory */
	/* whether the file or directory existed before caisson made a mount point of it */
	bool existed;
	struct stat st;      /* what fstat(2) says about fd */
	char path[PATH_MAX]; /* path of the file or directory, without "//", "." and ".." */
};

/*
 * Stores the path in ret as an absolute path without "//", "." and "..". This function and the next
 * ones, up to mnt_symlink(), are in mnt.c.
 */
int mnt_clean_path(const char *path, char ret[static PATH_MAX]) must_check;

/*
 * Sets the error message for a path in the container; `what` and `path` begin the message. r is the
 * error that a function of base/path.h returned. Returns r or another negative error.
 */
int mnt_path_error(int r, const char *what, const char *path);

/*
 * Sets and clears the attributes of `m` (attr_set, attr_clr, rec_attr_set and rec_attr_clr) on the
 * mount `tree`, which may be detached or attached.
 */
int mnt_apply_attrs(int tree, const struct spec_mount *m) must_check;

/*
 * Makes dir/name a symbolic link to target. Returns 1 if the link was made, and 0 if the name
 * already exists. path is the link's path in the container, which error messages name.
 */
int mnt_try_symlink(int dir, const char *name, const char *path, const char *target) must_check;
bool mnt_is_link_to(int dir, const char *name, const char *target);

/*
 * Makes a symbolic link in the container's root. Succeeds if the same link already exists; fails if
 * any other file is at the path.
 */
int mnt_symlink(const struct step_ctx *c, const char *path, const char *target) must_check;

/*
 * Makes a new file system for a MOUNT step of the plan and returns its detached mount, with all
 * attributes set (mount_fs.c).
 */
int mnt_new_fs(struct step_ctx *c, const struct step *s, const struct mnt_target *t) must_check;

/*
 * Changes the options of the file system that is mounted at fd, as the mount option "remount" does
 * (new_fs.c). Attributes of the mount itself are not changed here but by mnt_apply_attrs().
 */
int mnt_reconfigure(int fd, const struct spec_mount *m) must_check;

/*
 * Opens /dev/console as O_PATH, so that the container's terminal can be mounted on it (console.c).
 * Makes an empty file /dev/console if there is none.
 */
int mnt_console_target(int root) must_check;

/*
 * An entry of the list of mounts that the step PIVOT makes read-only. They do not become read-only
 * when they are made, because steps before PIVOT make files in them.
 */
struct step_late_ro {
	struct step_late_ro *next;
	int fd;
	const char *field;
};
