/* SPDX-License-Identifier: Apache-2.0 */
/* HOST's part of the container's network namespace: its making, and the interfaces that move in. */
#pragma once
#include "launch/host.h"

/*
 * Begins to make the network namespace of a container to be created, if the plan will have
 * NEW_NETWORK (plan_makes_network()). A thread makes it, because that takes the kernel 0.6 ms, a
 * sixth of a container's start, and the runtime has other things to do until INIT needs it. Errors
 * are those of network_finish().
 */
void network_begin(struct launch *l);

/* Waits for the thread, and ends it. Returns the namespace, which l keeps until network_close(). */
int network_finish(struct launch *l) must_check;

void network_close(struct launch *l);

/* NEW_NETWORK: gives the namespace to INIT. */
int network_give(struct launch *l, const struct step *s) must_check;

/*
 * Opens INIT's network namespace. INIT may not have joined it yet when this is called, so the
 * descriptor that it joins by is taken if there is one. -1 with errno.
 */
int network_open_init(struct launch *l) must_check;

/* NET_DEVICE */
int network_move_device(struct launch *l, const struct step *s) must_check;

/* Moves the network devices back to where they came from. */
void network_return_devices(struct launch *l);
