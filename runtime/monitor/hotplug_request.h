/* SPDX-License-Identifier: Apache-2.0 */
/* Checks the requests to attach a device or a mount to a machine that runs, for hotplug.c. */
#pragma once
#include "monitor/hotplug.h"

struct hotplug_kind {
	const char *name;
	/*
	 * how many descriptors come with the request: that of a device, and for a disk the two of
	 * its server too; 0: it is no device of the machine
	 */
	unsigned device, descriptors;
	/* Checks the request, and reads what the machine needs for the device. */
	int (*read)(struct monitor *m, struct agent_frame *f, struct attached *ret,
		struct machine_device *device);
};

/* Returns the kind of this name, or NULL. */
const struct hotplug_kind *hotplug_find_kind(const char *name);
