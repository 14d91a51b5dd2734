/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies the mounts that a container binds. The host's side makes the copies, because only there
 * caisson has the rights to copy the mounts and sees the host's files.
 */
#pragma once
#include "plan/plan.h"

/*
 * Makes a detached copy of the mount that an OPEN_ROOT, OPEN_SOURCE or ATTACH_ROOT step names, with
 * its propagation set and its ids mapped. If the copy is to become a mount namespace, only opens
 * the directory, or the detached overlay. If the path is inside the container's root, only INIT can
 * call this function. `userns` is the user namespace that the container joins by path, or -EBADF.
 * Returns a close-on-exec descriptor.
 */
int open_tree_copy(const struct step *s, int userns) must_check;

/*
 * Sets the propagation of the copy `tree`, and of all mounts beneath it, to the propagation that
 * the step names.
 */
int open_tree_propagate(int tree, const struct step *s) must_check;
