/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waits for messages from INIT, the container's first process, and notices if INIT has ended or has
 * executed the program.
 */
#pragma once
#include "launch/host.h"

/* What a process that waits for INIT, the container's first process, has to know about INIT. */
struct init_watch {
	pid_t pid;
	int pidfd;
	int interrupt; /* descriptor from interrupt_block(); -EBADF: signals are not blocked */
	/*
	 * device and inode number of the file from which caisson-init, the container's first
	 * program, is executed; 0: the process is not about to execute the container's program
	 */
	uint64_t dev, ino;
};

/*
 * Says whether the container's first process executes another file than caisson-init, the file in
 * w, which means that it has become the container's program. Returns true for a process that has
 * ended. Returns false if the kernel forbids reading which file the process executes, because then
 * nothing shows that the program runs.
 */
bool init_has_executed(const struct init_watch *w);

/*
 * Waits for fd, the runtime's end of the channel or of result.fifo, to which INIT (the container's
 * first process) writes. Returns 1 if fd can be read or is at its end. Returns 0 if INIT has
 * executed the program or has ended and fd has nothing to read. Returns -EINTR with a message if a
 * signal has come.
 */
int init_watch_wait(const struct init_watch *w, int fd) must_check;
