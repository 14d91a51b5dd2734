/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a new file system with the system calls for it, as a detached mount. Private to step/:
 * mount_fs.c decides what each type of file system needs.
 */
#pragma once
#include "step/mnt.h"

/* The attributes that fsmount(2) accepts. */
#define FSMOUNT_ATTRS \
	(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC | \
		MOUNT_ATTR__ATIME | MOUNT_ATTR_NODIRATIME | MOUNT_ATTR_NOSYMFOLLOW)

struct new_fs {
	struct step_ctx *c;
	const struct step *s;
	const struct spec_mount *m;
	const struct mnt_target *t;
	const char *type, *source;
	const char *label; /* for context=, or NULL */
	bool ro;           /* the super block is read-only */
	char mode[16];     /* "mode=0755" of a tmpfs that covers a directory, or "" */
};

/*
 * Makes the mount by fsopen(2) and returns its descriptor. The caller sets the recursive
 * attributes.
 */
int new_fs_by_fsopen(const struct new_fs *f) must_check;

/* Does the same, but by mount(2) if fsconfig(2) cannot carry the source or the options. */
int new_fs_make(const struct new_fs *f) must_check;
