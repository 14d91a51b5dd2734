/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets SIGTERM, SIGINT, SIGHUP and SIGQUIT end a wait. A command that creates something blocks all
 * signals first, so that none of them kills the command half-way, and checks a signalfd of these
 * four signals wherever it waits. If one of the four signals has come, the command undoes what it
 * has created. Those of the four that the process ignores, as nohup(1) makes it do, stay ignored.
 */
#pragma once
#include <stdbool.h>

#include "base/err.h"

/* Says whether this process ignores the signal, because its caller did before execve(2). */
bool interrupt_is_ignored(int sig);

/*
 * Blocks all signals. Returns a signalfd of SIGTERM, SIGINT, SIGHUP and SIGQUIT, close-on-exec, or
 * -errno.
 */
int interrupt_block(void) must_check;

/*
 * Does the same as interrupt_block(), but blocks only the four signals, so that a command that runs
 * for long can still be stopped by Ctrl-Z.
 */
int interrupt_block_ends(void) must_check;

void interrupt_unblock(void);

/*
 * Returns a signalfd of SIGTERM, SIGINT, SIGHUP and SIGQUIT if interrupt_block() has blocked them,
 * else -EBADF without a message.
 */
int interrupt_open(void) must_check;

/* Returns -EINTR with a message if SIGTERM, SIGINT, SIGHUP or SIGQUIT has come, else 0. */
int interrupt_read(int interrupt) must_check;

/*
 * Waits until fd is readable or at its end. Returns 0, or -EINTR with a message if SIGTERM, SIGINT,
 * SIGHUP or SIGQUIT comes first. If `interrupt` (from interrupt_open()) is -EBADF, returns 0
 * without waiting, because signals are then not blocked and can end this process themselves.
 */
int interrupt_wait(int interrupt, int fd) must_check;
