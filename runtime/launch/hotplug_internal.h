/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what hotplug.c and hotplug_disk.c share. */
#pragma once
#include "agent/agent.h"
#include "launch/hotplug.h"

/*
 * how long, in ms, the monitor may take; the monitor waits less long for the guest (HOTPLUG_MS),
 * and for caisson-disk (DISK_PROCESS_END_MS)
 */
#define HOTPLUG_CALL_MS 75000

/* Fails if the container is in namespaces. The error message begins with the option. */
int hotplug_refuse_namespaces(const struct container *c, const char *option) must_check;
/* Begins a request "attach" or "detach". */
int hotplug_write(struct agent_writer *w, const char *type, const char *kind, const char *name)
	must_check;
/* Makes the monitor detach a device. Returns -ENOENT if no such device was attached. */
int hotplug_detach(struct container *c, const char *kind, const char *name, bool force) must_check;
