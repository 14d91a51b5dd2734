/* SPDX-License-Identifier: Apache-2.0 */
/* Interfaces of a container that a guest is to get. */
#pragma once
#include "netsetup/carry/net_config.h"
#include "unit/rig/net.h"

/* Makes a veth pair: `name` in the box, with this MAC address, and `far` in `peer`. Both are up. */
void add_interface(const struct nets *n, const char *name, const char *far, const char *mac);

void read_box(const struct nets *n, struct arena *a, struct net_config *ret);

/* For cmocka: `peer`, `guest` and `box`, which is then the current one. */
int carry_setup(void **state);
