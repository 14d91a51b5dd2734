/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the monitor of a running microVM on behalf of commands, for example for statistics. */
#pragma once
#include "launch/container.h"

struct agent_frame;
struct agent_reader;

int vm_signal(struct container *c, int sig, bool all) must_check;
int vm_freeze(struct container *c, bool frozen) must_check;

/* Attaches a socket to the console of a foreign guest. The monitor gets a copy of the socket. */
int vm_attach_console(struct container *c, int sock) must_check;

/*
 * Asks the monitor for `what`, which is "ps" or "stats", or of a foreign guest "address". *ret is
 * the reply, which the caller releases.
 */
int vm_ask(struct container *c, const char *what, struct agent_frame *ret) must_check;

/* Sends the guest new limits for the cgroup inside it. */
int vm_update(struct container *c, const struct cg_resources *guest) must_check;

/*
 * Returns a socket that becomes readable when the guest's kernel has killed a process because
 * memory ran out.
 */
int vm_watch(struct container *c) must_check;

/*
 * Reads the socket of vm_watch(). Returns 1 if the guest's kernel has killed a process, 0 if it has
 * not, and -ESRCH if the monitor closed the socket.
 */
int vm_watch_read(int sock, struct agent_reader *r) must_check;

/*
 * Makes the monitor pause the machine and write it to two empty files. Returns a socket. If that is
 * closed, the machine goes on. vm_end() ends the machine instead, and waits for its end.
 */
int vm_checkpoint(struct container *c, int state, int memory) must_check;
int vm_end(struct container *c, int sock) must_check;
