/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The foreground of `run` and `exec`. The caller blocks signals (base/interrupt.h) before the
 * process starts.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"
#include "ns/ns.h"

struct notify;

/*
 * Forwards signals and the terminal until the process ends; if n is not NULL, also what the
 * container reports at its NOTIFY_SOCKET. The argument console is the terminal's master or -EBADF,
 * and is closed if caisson's terminal goes away. *ret_status is the exit code, or 128+signal.
 */
int launch_attend(struct ns_child *child, int *console, struct notify *n, int *ret_status)
	must_check;

/* The size of caisson's own terminal in characters; 0 and 0 without one. */
void launch_window_size(uint16_t *ret_height, uint16_t *ret_width);
