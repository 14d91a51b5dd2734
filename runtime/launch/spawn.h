/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the plan's step CLONE for a container without a microVM: starts the container's first
 * process.
 */
#pragma once
#include "launch/host.h"

/*
 * Starts a process that executes caisson-init, and passes it the orders, which are the steps that
 * the plan gives to the container's first process. *theirs is the new process's end of the channel,
 * and the runtime closes it after the start.
 */
int launch_spawn(struct launch *l, const struct step *clone, int *theirs) must_check;
