/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what hotplug.c and hotplug_disk.c share. */
#pragma once
#include <limits.h>
#include <sys/stat.h>

#include "guest/guest.h"

/*
 * Attaches the detached mount `tree` at the path `target` of the container, or removes the mount at
 * `target`, whose root is *is (step/live_mount.h). hotplug_detach_mount() returns 1 if it removed
 * the mount, and 0 if there is none, because the container may have unmounted it itself. The
 * agent's job is in its own mount namespace afterwards.
 */
int hotplug_attach_mount(struct guest *g, int tree, const char *target) must_check;
int hotplug_detach_mount(struct guest *g, const char *target, const struct stat *is) must_check;

/*
 * hotplug_disk.c: gives the container the disk that the driver has found in the slot, and takes it
 * away, which fails with -EBUSY if the disk is in use.
 */
int hotplug_attach_disk(struct guest *g, const struct agent_frame *f, uint64_t slot) must_check;
int hotplug_detach_disk(struct guest *g, const struct agent_frame *f, uint64_t slot) must_check;

/* The node that the guest's kernel has made for a disk. */
struct hotplug_node {
	char path[48]; /* such as "/dev/vdb" */
	struct stat st;
};
/* Finds the node of the disk in the slot. Returns -ENODEV if the driver has no disk there. */
int hotplug_find_node(uint64_t slot, struct hotplug_node *ret) must_check;
/*
 * Fails with -EBUSY if a file system on the disk is mounted, or if something else uses the disk
 * exclusively, such as a device mapper.
 */
int hotplug_check_unused(const char *node) must_check;

/*
 * hotplug_volume.c: mounts the file system of the disk that the driver has found in the slot into
 * the container, and unmounts it, which fails with -EBUSY if it is in use.
 */
int hotplug_attach_volume(struct guest *g, const struct agent_frame *f, uint64_t slot) must_check;
int hotplug_detach_volume(struct guest *g, const struct agent_frame *f, uint64_t slot) must_check;

/*
 * hotplug.c: makes the driver look at the slots, [{slot}, ...], in which the machine has got
 * devices after the kernel booted. NULL: there are none.
 */
int hotplug_find_devices(const struct json *slots) must_check;
