/* SPDX-License-Identifier: Apache-2.0 */
/* STEP_CLONE in container mode. */
#pragma once
#include "launch/host.h"

/*
 * Makes a process that executes caisson-init with the orders for INIT's part of the plan. *theirs
 * is INIT's end of the channel, and is closed.
 */
int launch_spawn(struct launch *l, const struct step *clone, int *theirs) must_check;
