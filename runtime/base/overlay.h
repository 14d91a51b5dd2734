/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A detached overlay mount: it is in no mount namespace and has no mount point, so it ends with the
 * last descriptor or container that uses it, and a process that is killed leaves none behind.
 */
#pragma once
#include "base/err.h"

#define OVERLAY_LOWER_MAX 500u /* directories that the kernel can stack */

struct overlay {
	const char *dir;   /* absolute: where the lower directories are */
	const char *lower; /* their names there, the topmost first, with ":" in between */
	/*
	 * Absolute, of one file system. What is written goes to upper; work is overlayfs's own.
	 * NULL: the mount is read-only, and there are two lower directories at least.
	 */
	const char *upper, *work;
	bool userxattr; /* the mounter is in a user namespace: marks are kept in user.overlay.* */
};

/*
 * Mounts it. A directory that is only changed, not replaced, is merged with those below; a rename
 * of a lower directory fails with EXDEV; no file is half in one directory and half in another
 * (metacopy). The mount is volatile (Linux 5.10): fsync(2) in it does nothing, and its upper and
 * work directories cannot be mounted again.
 *
 * Returns a close-on-exec descriptor. -EPERM, -ENODEV, -EINVAL: overlayfs can't be had here.
 */
int overlay_mount(const struct overlay *o) must_check;
