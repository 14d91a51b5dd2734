/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process of the host needs to stand for a process in the guest: its signals, its terminal,
 * and its exit. The monitor and the proxy of an exec use it.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"

/* Blocks all signals, so that they are read from *ret_fd, a signalfd that does not block. */
int impersonate_signals(int *ret_fd) must_check;

/*
 * Makes a terminal. Its master side goes to the runtime over `channel` (ns/channel.h). Its slave
 * side becomes the controlling terminal of this session's leader, so that SIGWINCH tells when the
 * size changes; and the slave side is raw, because the guest's terminal does echo, line editing and
 * signals. rows 0: the size is not set.
 */
int impersonate_terminal(uint16_t rows, uint16_t columns, int channel, int *ret_slave) must_check;

/* Exits, or kills itself by a signal, as a process of this status (waitpid(2)) did. */
_Noreturn void impersonate_exit(int status);
