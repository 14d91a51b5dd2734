/* SPDX-License-Identifier: Apache-2.0 */
/* Device nodes for a container that may make none itself, because it is in a user namespace. */
#pragma once
#include "plan/plan.h"

/*
 * Does a DEVICE_NODES step: makes the nodes, and puts into each one's slot a close-on-exec
 * descriptor of a detached mount of it, which INIT's DEVICE step attaches. The caller is in the
 * initial user namespace. userns: the user namespace that the container joins by path; -EBADF: it
 * has a new one.
 */
int device_nodes_make(const struct step *s, int userns, int *slots) must_check;
