/* SPDX-License-Identifier: Apache-2.0 */
/* HOST's side of bind mounts: copies of mounts, made where the caller has the rights and the view
 * to. */
#pragma once
#include "plan/plan.h"

/*
 * A detached copy of the mount (OPEN_ROOT, OPEN_SOURCE; ATTACH_ROOT's data are the same) with its
 * propagation set and its ids mapped. Returns a descriptor, close-on-exec.
 */
int open_tree_copy(const struct step *s) must_check;
