/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attends to the container's process for `run` and `exec` in the foreground. The caller blocks
 * signals (base/interrupt.h) before the process starts.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"
#include "ns/ns.h"

struct notify;

/*
 * Forwards signals and the terminal's data until the process `child` ends. If n is not NULL, also
 * relays the messages that the container sends to its NOTIFY_SOCKET. The argument console points to
 * the descriptor of the container's terminal (the master) or to -EBADF, and the descriptor is
 * closed if caisson's terminal goes away. *ret_status is the exit code, or 128 + the signal that
 * killed the process.
 */
int launch_attend(struct ns_child *child, int *console, struct notify *n, int *ret_status)
	must_check;

/*
 * Gets the size in characters of the terminal on which caisson was started. Both numbers are 0 if
 * standard input is no terminal.
 */
void launch_window_size(uint16_t *ret_height, uint16_t *ret_width);
