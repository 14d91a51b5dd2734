/* SPDX-License-Identifier: Apache-2.0 */
/* VM mode's part of create, run and exec: what is prepared for the monitor, and what becomes it. */
#pragma once
#include <stddef.h>

#include "base/err.h"

struct exec_options;
struct launch;
struct launch_options;

/*
 * Finds caisson-init beside the program if that runs from its build directory, and remembers it in
 * the environment. Call it before seal_self(), because a sealed copy has no directory.
 */
int launch_find_libexec(void) must_check;

/* Decides on the machine, and refuses what a VM cannot honour, before anything is made. */
int launch_prepare_vm(struct launch *l, const struct launch_options *o) must_check;
int launch_prepare_vm_exec(struct launch *l, const struct exec_options *o) must_check;

/* In the child of STEP_CLONE, in place of ns_init(): create's, and exec's. */
_Noreturn void launch_become_monitor(struct launch *l, int channel, size_t from);
_Noreturn void launch_become_proxy(struct launch *l, int channel);

/*
 * run, attached: the memfd in which the monitor says why its machine failed, because the monitor's
 * standard error is the container's. launch_read_failure() is called once the monitor has ended:
 * -EIO with that message, or 0.
 */
int launch_open_failure(struct launch *l) must_check;
int launch_read_failure(struct launch *l) must_check;
