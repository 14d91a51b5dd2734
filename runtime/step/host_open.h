/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies the mounts that the container gets from the host: the root file system and the sources of
 * bind mounts. In general the runtime makes the copies, because it has the rights to copy the
 * host's mounts and sees the host's files.
 */
#pragma once
#include "plan/plan.h"

/*
 * Does a step OPEN_ROOT or OPEN_SOURCE of the plan whose path is on the host: makes a detached copy
 * of the mount at the path, with the propagation and the id mapping that the step names. If the
 * step is OPEN_ROOT with open.layers, the copy is a new overlay. If open.as_namespace is set, the
 * function only opens the path or makes the overlay, because the step ATTACH_ROOT makes the copy
 * later. If the path is inside the container's root (open.in_root), step_open() does the step
 * instead. `userns` is the user namespace that the container joins by path, or -EBADF. Returns a
 * close-on-exec descriptor.
 */
int open_tree_copy(const struct step *s, int userns) must_check;

/*
 * Maps the ids of the mount `tree` as the step names it. Does nothing if the step names no maps.
 * `userns` is as for open_tree_copy().
 */
int open_tree_map(int tree, const struct step *s, int userns) must_check;

/*
 * Sets the propagation of the mount `tree`, a copy that open_tree_copy() or the step ATTACH_ROOT
 * has made, and of all mounts beneath it, to the propagation that the step names.
 */
int open_tree_propagate(int tree, const struct step *s) must_check;
