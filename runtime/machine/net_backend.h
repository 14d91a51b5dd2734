/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network device of a vhost-user back end, among those that are carried in: the guest gives it
 * its name, addresses and routes by the same message and the same code.
 */
#pragma once
#include "netsetup/carry/net_config.h"
#include "spec/spec.h"

/*
 * The device's MAC address: what the annotation says, else one of the container's own, which stays
 * the same as long as its id does.
 */
void net_backend_mac(const struct spec_vm_net *n, const char *id, uint8_t ret[6]);

/*
 * Adds the interface and its default routes to what was read of the container's network namespace.
 * -EEXIST: its name, its MAC address or a default route is taken there already; -ENOSPC: too many.
 */
int net_backend_add(struct arena *a, const struct spec_vm_net *n, const uint8_t mac[6],
	struct net_config *c) must_check;
