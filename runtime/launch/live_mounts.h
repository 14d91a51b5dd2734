/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mounts directories and files of the host into a container that runs, in namespaces or in a
 * microVM, and removes these mounts. CONTAINER_ATTACHED in the state directory lists them; an entry
 * is written before its mount is made, and removed after the mount, so that a mount of a command
 * that was killed can be removed.
 *
 * In a microVM the mount is put into the share that the file server serves, by entering the mount
 * namespace of that process (launch/hotplug.h), and then into the container by the guest's agent.
 */
#pragma once
#include "launch/container.h"

/* Adds the mount that `text` describes: SOURCE:TARGET, or SOURCE:TARGET:ro. */
int live_mounts_add(struct container *c, const char *text) must_check;

/*
 * Removes the mount that was added at `target`. Returns -EBUSY if the container uses it, and
 * -ENOENT if none was added there.
 */
int live_mounts_remove(struct container *c, const char *target) must_check;
