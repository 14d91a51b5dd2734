/* SPDX-License-Identifier: Apache-2.0 */
/* The foreground of `run` and `exec`. The caller blocks signals first, then starts the process. */
#pragma once
#include <stdint.h>

#include "base/err.h"
#include "ns/ns.h"

struct notify;

/* Blocks the signals that launch_attend() will forward. Call it before the process exists. */
int launch_block_signals(void) must_check;

/*
 * Forwards signals, the terminal and (if n is not NULL) what the container reports at its
 * NOTIFY_SOCKET, until the process ends. *console: the terminal's master, or -EBADF; closed if our
 * own terminal goes away. *ret_status: the exit code, or 128+signal.
 */
int launch_attend(struct ns_child *child, int *console, struct notify *n, int *ret_status)
	must_check;

/* The size of our own terminal in characters; 0 and 0 without a terminal. */
void launch_window_size(uint16_t *ret_height, uint16_t *ret_width);
