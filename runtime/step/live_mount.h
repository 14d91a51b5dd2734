/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaches a mount to a container that runs, and removes it again: on the host for a container in
 * namespaces, in the guest for a container in a microVM. The calling process stays in the
 * container's mount namespace afterwards, so it should end soon.
 *
 * The target is resolved beneath the container's root. Its last component may not be a symbolic
 * link, because the container could let it lead to another mount before the mount is removed.
 */
#pragma once
#include <sys/stat.h>

#include "base/err.h"

/*
 * Attaches the detached mount `tree` at the path `target` of the container whose mount namespace is
 * ns, a descriptor for setns(2). Makes a missing mount point. Returns -EBUSY if there is a mount at
 * the target already.
 */
int live_mount_attach(int ns, int tree, const char *target) must_check;

/*
 * Removes the mount at `target`, whose root is the file *is, and first what is mounted beneath it.
 * Returns -EBUSY if a process uses one of these mounts, and -ENOENT if another mount or none is at
 * the target.
 */
int live_mount_detach(int ns, const char *target, const struct stat *is) must_check;
