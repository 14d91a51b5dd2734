/* SPDX-License-Identifier: Apache-2.0 */
/* What a process of the host's needs to stand for one in the guest: signals, a terminal, an end. */
#pragma once
#include <stdint.h>

#include "base/err.h"

/* Blocks all signals, to be read from *ret_fd, which does not block: none is this process's own. */
int impersonate_signals(int *ret_fd) must_check;

/*
 * Makes a terminal: its master goes to the runtime over `channel` (ns/channel.h), its slave side
 * becomes the controlling terminal of this session's leader, so that window changes come as
 * SIGWINCH. The slave side is raw: echo, line editing and signals are the guest's terminal's. 0
 * rows: no size is set.
 */
int impersonate_terminal(uint16_t rows, uint16_t columns, int channel, int *ret_slave) must_check;

/* Ends this process as that one ended: status is waitpid(2)'s. */
_Noreturn void impersonate_end(int status);
