/* SPDX-License-Identifier: Apache-2.0 */
/* How the runtime waits for INIT. */
#pragma once
#include "launch/host.h"

/* INIT as one who waits for it knows it. */
struct init_watch {
	pid_t pid;
	int pidfd;
	int interrupt; /* of interrupt_block(), or -EBADF: signals are not blocked */
	/* of the file that INIT is executed from; 0: INIT does not execute the program now */
	uint64_t dev, ino;
};

/*
 * Says whether the process executes another file than this one. A process that has ended counts as
 * one that does. If its file cannot be looked at, the process has not executed the program: nobody
 * has said that it runs.
 */
bool init_has_executed(const struct init_watch *w);

/*
 * Waits until fd, the runtime's end of the channel or of result.fifo, can be read or is at its end
 * (returns 1), or until INIT has executed the program or has ended and fd has nothing to read
 * (returns 0). -EINTR with a message: a signal has come.
 */
int init_watch_wait(const struct init_watch *w, int fd) must_check;
