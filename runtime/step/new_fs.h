/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a new file system as a detached mount. Only mount_fs.c uses this header: it decides which
 * options each type of file system gets, and the functions here make the system calls.
 */
#pragma once
#include "step/mnt.h"

/* The mount attributes that fsmount(2) accepts; other attributes need mount_setattr(2). */
#define FSMOUNT_ATTRS \
	(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | \
		MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_NOSYMFOLLOW)

struct new_fs {
	struct step_ctx *c;
	const struct step *s;
	const struct spec_mount *m;
	const struct mnt_target *t;
	const char *type, *source;
	const char *label; /* SELinux label for the option context=, or NULL */
	bool ro;           /* whether the super block becomes read-only too */
	/*
	 * option of a tmpfs that covers a directory, to give the tmpfs that directory's mode, such
	 * as "mode=0755"; or ""
	 */
	char mode[16];
};

/*
 * Makes the file system by fsopen(2) and returns the descriptor of its detached mount. The caller
 * then sets the attributes that also apply to mounts beneath it.
 */
int new_fs_by_fsopen(const struct new_fs *f) must_check;

/*
 * Does what new_fs_by_fsopen() does, but uses mount(2) if fsconfig(2) cannot carry the source or
 * the options.
 */
int new_fs_make(const struct new_fs *f) must_check;
