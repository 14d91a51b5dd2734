/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the caisson command (the plan's party "host") does for the container's network namespace: it
 * makes the namespace and moves interfaces into it.
 */
#pragma once
#include "launch/host.h"

/*
 * Begins to make the network namespace of a new container, if the plan will have NEW_NETWORK
 * (plan_makes_network()). A thread makes it, because that takes the kernel 0.6 ms, a sixth of a
 * container's start, and the runtime can do other things until INIT needs the namespace.
 * network_finish() reports errors.
 */
void network_begin(struct launch *l);

void network_close(struct launch *l);

/* Does a NEW_NETWORK step: gives the namespace to INIT. */
int network_give(struct launch *l, const struct step *s) must_check;

/*
 * Opens INIT's network namespace. If HOST has made the namespace, its descriptor is used, because
 * INIT may not have joined the namespace yet. If it fails, returns -1 and sets errno.
 */
int network_open_init(struct launch *l) must_check;

/* Does a NET_DEVICE step: moves a network device into the container. */
int network_move_device(struct launch *l, const struct step *s) must_check;

/* Moves the network devices back to where they came from. */
void network_return_devices(struct launch *l);
