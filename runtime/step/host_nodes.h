/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes device nodes for a container that cannot make them itself, because it is in a user
 * namespace.
 */
#pragma once
#include "plan/plan.h"

/*
 * Does a DEVICE_NODES step of the plan: makes the device nodes, and stores for each node a
 * close-on-exec descriptor of a detached mount of the node in `slots`. A DEVICE step of INIT, the
 * container's first process, attaches the mount later. The caller must be in the initial user
 * namespace. `userns` is the user namespace that the container joins by path, or -EBADF if the
 * container gets a new one.
 */
int device_nodes_make(const struct step *s, int userns, int *slots) must_check;
