/* SPDX-License-Identifier: Apache-2.0 */
/* VM mode's part of create, run and exec: what is prepared for the monitor, and what becomes it. */
#pragma once
#include <stddef.h>

#include "base/err.h"

struct exec_options;
struct launch;
struct launch_options;

/* Decides on the machine, and refuses what a VM cannot honour, before anything is made. */
int launch_prepare_vm(struct launch *l, const struct launch_options *o) must_check;
int launch_prepare_vm_exec(struct launch *l, const struct exec_options *o) must_check;

/*
 * The child of STEP_CLONE calls one of these in place of ns_init(): create's child becomes the
 * monitor, exec's becomes the proxy.
 */
_Noreturn void launch_become_monitor(struct launch *l, int channel, size_t from);
_Noreturn void launch_become_proxy(struct launch *l, int channel);

/*
 * In the foreground of run, the monitor writes into a memfd why its machine failed, because its
 * standard error is the container's. launch_open_failure() makes the memfd. launch_read_failure()
 * is called once the monitor has ended, and returns -EIO with that message, or 0.
 */
int launch_open_failure(struct launch *l) must_check;
int launch_read_failure(struct launch *l) must_check;
