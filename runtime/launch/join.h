/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Joins a container to the networks of the options --network and -p. The runtime itself changes no
 * network. It executes the helper program caisson-net (network/tool.h) once when the container's
 * network namespace exists, and once when the container is undone. For a container without networks
 * the runtime makes one call of access(2) when the container ends.
 */
#pragma once
#include "launch/host.h"
#include "launch/prepare.h"

/*
 * Decides by the options and config.json which networks the container joins, and stores them in
 * b->networks. For --network none and --network host changes b->spec instead. Without such options
 * changes nothing, except for an ordinary user's microVM, which gets a network of pasta or
 * slirp4netns if a container in namespaces would share the host's network.
 */
int join_decide(struct arena *a, const struct launch_options *o, struct bundle *b) must_check;

/*
 * Makes the files hosts and resolv.conf in the state directory, empty. The plan's step NETWORKS
 * writes them later, but they must exist before, because earlier steps open them as the sources of
 * mounts.
 */
int join_make_files(struct container *c) must_check;

/* Does a NETWORKS step of the plan: gives the container's network namespace its interfaces. */
int join_networks(struct launch *l, const struct step *s) must_check;

/*
 * Returns whether caisson-net has a record that says that a container with this ID is attached to a
 * network. That may be another container with the same ID under another --root.
 */
bool join_is_on_record(const struct container *c);

/*
 * Undoes the plan's step NETWORKS, and what `caisson net attach` did for the container. A failure
 * is only logged, because what is left is removed by the next attachment of any container that
 * needs the address or the port.
 */
void join_undo(struct container *c);
