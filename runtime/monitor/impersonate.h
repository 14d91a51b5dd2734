/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets a process on the host stand for a process in the guest: the host's process takes over the
 * signals, the terminal and the exit of the guest's process. The monitor and the proxy of an exec
 * use this.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"

/* Blocks all signals and sets *ret_fd to a non-blocking signalfd that receives these signals. */
int impersonate_signals(int *ret_fd) must_check;

/*
 * Makes a terminal for this process. The function sends the master side to the runtime over
 * `channel` (ns/channel.h). The slave side becomes the controlling terminal of this process, which
 * leads a session, so that SIGWINCH reports a new size. The slave side is raw, because the guest's
 * terminal does echo, line editing and signals. If rows is 0, the size is not set.
 */
int impersonate_terminal(uint16_t rows, uint16_t columns, int channel, int *ret_slave) must_check;

/*
 * Ends this process in the way that `status` (from waitpid(2)) describes: exits with the same code,
 * or kills this process with the same signal.
 */
_Noreturn void impersonate_exit(int status);
