/* SPDX-License-Identifier: Apache-2.0 */
/* Waits for messages from INIT, and notices if INIT has ended or has executed the program. */
#pragma once
#include "launch/host.h"

/* Describes INIT to a process that waits for it. */
struct init_watch {
	pid_t pid;
	int pidfd;
	int interrupt; /* descriptor from interrupt_block(); -EBADF: signals are not blocked */
	/*
	 * device and inode number of the file from which INIT is executed; 0: INIT is not about to
	 * execute the program
	 */
	uint64_t dev, ino;
};

/*
 * Says whether the process executes another file than the one in w, which means that INIT has
 * become the container's program. Returns true for a process that has ended. Returns false if the
 * kernel forbids reading which file it executes, because then nothing shows that the program runs.
 */
bool init_has_executed(const struct init_watch *w);

/*
 * Waits for fd, the runtime's end of the channel or of result.fifo. Returns 1 if fd can be read or
 * is at its end. Returns 0 if INIT has executed the program or has ended and fd has nothing to
 * read. Returns -EINTR with a message if a signal has come.
 */
int init_watch_wait(const struct init_watch *w, int fd) must_check;
