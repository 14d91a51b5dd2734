/* SPDX-License-Identifier: Apache-2.0 */
/* Watches and ends the processes that serve disks (caisson-disk), for hotplug.c. */
#pragma once
#include "monitor/hotplug.h"

/*
 * Ends the servers of all disks, and waits up to timeout_ms until each has written what it holds in
 * memory. Tells the user of each disk that has not, or may not have, all that the guest wrote.
 */
void hotplug_end_servers(struct monitor *m, int timeout_ms);

/* The functions below are in hotplug.c. */

/* Makes the device's entry of the table free. */
void hotplug_forget(struct attached *d);
/*
 * Ends the present change, and replies to the command if the command has not ended. `error` is a
 * positive errno with the message `why`, or 0.
 */
void hotplug_finish(struct monitor *m, int error, const char *why);
