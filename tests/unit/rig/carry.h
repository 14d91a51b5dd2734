/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a container's network interfaces, for tests of the code that carries the interfaces into a
 * guest.
 */
#pragma once
#include "netsetup/carry/net_config.h"
#include "unit/rig/net.h"

/*
 * Makes a veth pair: `name` in the namespace `box`, with this MAC address, and `far` in the
 * namespace `peer`. Both are up.
 */
void add_interface(const struct nets *n, const char *name, const char *far, const char *mac);

void read_box(const struct nets *n, struct arena *a, struct net_config *ret);

/*
 * Set-up function for cmocka: makes the namespaces `peer`, `guest` and `box`, and leaves the test
 * in `box`.
 */
int carry_setup(void **state);
