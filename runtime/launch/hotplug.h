/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attaches devices to a container in a microVM that runs, and detaches them. The microVM's monitor
 * does it (monitor/hotplug.h); the command makes the descriptor of the device, because the monitor
 * is in a jail.
 */
#pragma once
#include "launch/container.h"

/*
 * Gives the microVM the interface `name` of the container's network namespace. The command's
 * process is in that namespace afterwards. Returns -ENOENT if there is no such interface, -EBUSY if
 * a tap has its traffic already, for example because the microVM has the interface, and -EEXIST if
 * the microVM has another interface with this name or MAC address. After a failure the interface is
 * as it was.
 */
int hotplug_add_net(struct container *c, const char *name) must_check;
/*
 * Detaches from the microVM an interface that was added. The interface stays in the namespace.
 * Returns -ENOENT if it was not added.
 */
int hotplug_remove_net(struct container *c, const char *name) must_check;
/* Does the same even if the guest refuses, or does not answer in five seconds. */
int hotplug_force_net(struct container *c, const char *name) must_check;

/*
 * Gives the microVM a disk: SOURCE:TARGET[:OPTIONS]. SOURCE is an image or a block device, TARGET
 * the path of the node in the container, and OPTIONS are ro, format=NAME (raw without it, else a
 * name of vm.image.format), serial=TEXT, and backing= and key=, which are those of caisson-disk.
 */
int hotplug_add_disk(struct container *c, const char *text) must_check;
/* Detaches a disk that was added. Returns -EBUSY if the container uses the disk. */
int hotplug_remove_disk(struct container *c, const char *target) must_check;

/*
 * Mounts a volume of the pool qcow2, whose disk is the file `image`, at `target` of a container in
 * a microVM, and unmounts it. hotplug_remove_volume() returns -EBUSY if the container uses it, and
 * -ENOENT if none was added there.
 */
int hotplug_add_volume(struct container *c, const char *image, const char *target, bool read_only)
	must_check;
int hotplug_remove_volume(struct container *c, const char *target) must_check;

/* A mount that is put into the share of the microVM's file server, and then into the container. */
struct hotplug_mount {
	const char *share;  /* its name in the share, which no other mount has */
	const char *target; /* its path in the container */
	int tree;           /* a detached mount */
	bool read_only;
};

/*
 * These functions are for live_mounts.c. The calling process is in the mount namespace of the file
 * server afterwards. hotplug_remove_mount() returns -EBUSY if the container uses the mount.
 */
int hotplug_add_mount(struct container *c, const struct hotplug_mount *m) must_check;
int hotplug_remove_mount(struct container *c, const char *share, const char *target) must_check;
