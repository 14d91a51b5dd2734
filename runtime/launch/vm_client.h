/* SPDX-License-Identifier: Apache-2.0 */
/* What commands ask the monitor of a running container in a microVM. */
#pragma once
#include "launch/container.h"

struct agent_frame;
struct agent_reader;

int vm_signal(struct container *c, int sig, bool all) must_check;
int vm_freeze(struct container *c, bool frozen) must_check;

/* what is "ps" or "stats". The caller releases the reply in *ret. */
int vm_ask(struct container *c, const char *what, struct agent_frame *ret) must_check;

/* Changes the guest's part of the limits. */
int vm_update(struct container *c, const struct cg_resources *guest) must_check;

/*
 * Returns a socket that becomes readable when the guest's kernel has killed a process for want of
 * memory.
 */
int vm_watch(struct container *c) must_check;

/*
 * Reads that socket. Returns 1 if the guest's kernel has killed a process, 0 if it has not, and
 * -ESRCH if the monitor closed the socket.
 */
int vm_watch_read(int sock, struct agent_reader *r) must_check;
