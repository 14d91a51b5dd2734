/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts an overlay that is detached: the mount is in no mount namespace and has no mount point.
 * The kernel unmounts it when no process has a descriptor of it and no container uses it, so a
 * process that is killed leaves no mount behind.
 */
#pragma once
#include "base/err.h"

#define OVERLAY_LOWER_MAX 500u /* how many directories overlayfs can stack */

struct overlay {
	const char *dir; /* absolute path of the directory that holds the lower directories */
	/* names of the lower directories, the topmost first, with ":" in between */
	const char *lower;
	/*
	 * Absolute paths on one file system. Files that are written in the overlay go to `upper`,
	 * and `work` is overlayfs's own work directory. If both are NULL, the overlay is read-only,
	 * and has at least two lower directories.
	 */
	const char *upper, *work;
	/*
	 * Overlayfs keeps its marks in the extended attributes user.overlay.*. The caller sets this
	 * if it is in a user namespace, where the usual trusted.overlay.* cannot be set.
	 */
	bool userxattr;
};

/*
 * Mounts the overlay. A directory in `upper` is merged with the directory of the same name in the
 * lower ones, unless it is marked as a replacement. Renaming a lower directory fails with EXDEV. A
 * file is copied up as a whole (no metacopy). The mount is volatile (Linux 5.10): fsync(2) on it
 * does nothing, and its upper and work directories cannot be mounted a second time.
 *
 * Returns a close-on-exec descriptor. Returns -EPERM, -ENODEV or -EINVAL if overlayfs cannot be
 * used on this host.
 */
int overlay_mount(const struct overlay *o) must_check;

/*
 * Copies owner, mode, extended attributes and time of the directory `lower` to the empty directory
 * `upper`, because overlayfs shows those of the upper directory for the root of the mount.
 */
int overlay_copy_root(int lower, int upper) must_check;
