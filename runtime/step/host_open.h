/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HOST's side of bind mounts: it copies mounts while it has the rights for it and sees the host's
 * files.
 */
#pragma once
#include "plan/plan.h"

/*
 * Makes a detached copy of the mount that an OPEN_ROOT or OPEN_SOURCE step names, with its
 * propagation set and its ids mapped. ATTACH_ROOT's step has the same data. Only INIT can do a step
 * whose path is one of the container's root. Returns a close-on-exec descriptor.
 */
int open_tree_copy(const struct step *s) must_check;
