/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The networks of --network and -p. caisson itself makes none: it executes caisson-net (see
 * network/tool.h), once when the container's network namespace exists, and once when the container
 * is undone. A container without networks costs one access(2) at its end.
 */
#pragma once
#include "launch/host.h"
#include "launch/prepare.h"

/*
 * Decides which networks the container joins, as b->networks, and changes b->spec as --network none
 * and --network host say. Does nothing without these options.
 */
int join_decide(struct arena *a, const struct launch_options *o, struct bundle *b) must_check;

/* NETWORKS: gives the container's namespace its interfaces. */
int join_networks(struct launch *l, const struct step *s) must_check;

/* Whether the networks of the host know a container of this ID, which may be another one. */
bool join_is_on_record(const struct container *c);

/*
 * Undoes NETWORKS, and what `caisson net attach` did for the container. Failures are only logged,
 * because whoever needs the address or the port next also undoes what a container has left.
 */
void join_undo(struct container *c);
