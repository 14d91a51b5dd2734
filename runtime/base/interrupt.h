/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting that SIGTERM, SIGINT, SIGHUP and SIGQUIT end. A command that makes something blocks all
 * signals first, so that none of them kills it half-way, and looks at a signalfd of these four
 * wherever it waits. Then it can undo what it has made.
 */
#pragma once
#include "base/err.h"

/* Blocks all signals. Returns the signalfd, close-on-exec. */
int interrupt_block(void) must_check;

void interrupt_unblock(void);

/* Returns such a signalfd if a caller has blocked the signals, else -EBADF without a message. */
int interrupt_open(void) must_check;

/* Returns -EINTR with a message if one of the signals has come, else 0. */
int interrupt_read(int interrupt) must_check;

/*
 * Waits until fd is readable or at its end: 0, or -EINTR with a message. Returns at once if
 * `interrupt` is -EBADF, because then the signals are not blocked.
 */
int interrupt_wait(int interrupt, int fd) must_check;
