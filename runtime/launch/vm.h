/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What create, run and exec do for a container in a microVM: they prepare the files that the
 * microVM's monitor needs, and turn the new process into the monitor.
 */
#pragma once
#include <stddef.h>

#include "base/err.h"

struct exec_options;
struct launch;
struct launch_options;

/*
 * Decides which virtual machine the container gets. Refuses a configuration that a microVM cannot
 * honour, before anything is made.
 */
int launch_prepare_vm(struct launch *l, const struct launch_options *o) must_check;
int launch_prepare_vm_exec(struct launch *l, const struct exec_options *o) must_check;

/*
 * In VM mode, the process that the plan's step CLONE makes calls one of these functions in place of
 * ns_init(). The new process of create becomes the microVM's monitor. The new process of exec
 * becomes the proxy, which stands on the host for a process in the guest.
 */
_Noreturn void launch_become_monitor(struct launch *l, int channel, size_t from);
_Noreturn void launch_become_proxy(struct launch *l, int channel);

/*
 * launch_open_failure() makes a memfd into which the microVM's monitor writes why its machine
 * failed, if `run` stays in the foreground. It needs a memfd, because the monitor's standard error
 * is the container's. launch_read_failure() is called once the monitor has ended. It returns -EIO
 * with the text of the memfd as the message, or 0 if the memfd is empty.
 */
int launch_open_failure(struct launch *l) must_check;
int launch_read_failure(struct launch *l) must_check;
