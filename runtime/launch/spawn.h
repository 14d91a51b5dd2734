/* SPDX-License-Identifier: Apache-2.0 */
/* Does STEP_CLONE in container mode: starts the container's first process. */
#pragma once
#include "launch/host.h"

/*
 * Starts a process that executes caisson-init, and passes it the orders for INIT's part of the
 * plan. *theirs is INIT's end of the channel; it is closed in the runtime.
 */
int launch_spawn(struct launch *l, const struct step *clone, int *theirs) must_check;
