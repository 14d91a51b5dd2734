/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the runtime does for the container's network namespace: it makes the namespace and moves
 * interfaces into it.
 */
#pragma once
#include "launch/host.h"

/*
 * Begins to make the network namespace of a new container, if the plan will have a NEW_NETWORK step
 * (plan_makes_network()). A thread makes the namespace, because the kernel takes 0.6 ms for it, a
 * sixth of a container's start, and the runtime can do other things until the container's first
 * process needs the namespace. network_finish() reports errors.
 */
void network_begin(struct launch *l);

void network_close(struct launch *l);

/*
 * Does a NEW_NETWORK step of the plan: sends the new network namespace to INIT, the container's
 * first process.
 */
int network_give(struct launch *l, const struct step *s) must_check;

/*
 * Opens the network namespace of INIT, the container's first process. If the runtime has made or
 * opened the namespace, returns a duplicate of the runtime's descriptor, because INIT may not have
 * entered the namespace yet. If it fails, returns -1 and sets errno.
 */
int network_open_init(struct launch *l) must_check;

/* Does a NET_DEVICE step of the plan: moves a network device into the container. */
int network_move_device(struct launch *l, const struct step *s) must_check;

/* Moves the network devices that network_move_device() has moved back to where they came from. */
void network_return_devices(struct launch *l);
