/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adds the network interface that a vhost-user server serves to the list of interfaces that are
 * moved into the guest from the container's network namespace. So the guest configures the added
 * interface with the same message and the same code as the moved ones.
 */
#pragma once
#include "netsetup/carry/net_config.h"
#include "spec/spec.h"

/*
 * Gets the MAC address that config.json gives to the server's interface in an annotation. If there
 * is no such annotation, computes the address from the container's id, so that it is the same at
 * every start.
 */
void net_backend_mac(const struct spec_vm_net *n, const char *id, uint8_t ret[6]);

/*
 * Adds the interface of a vhost-user server and its default routes to *c, the configuration that
 * was read from the container's network namespace. Returns -EEXIST if the namespace already has an
 * interface with this name or this MAC address, or a default route, and -ENOSPC if there are too
 * many interfaces.
 */
int net_backend_add(struct arena *a, const struct spec_vm_net *n, const uint8_t mac[6],
	struct net_config *c) must_check;
