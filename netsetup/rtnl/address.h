/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the addresses of an interface, and adds these addresses again after the interface has moved
 * to another namespace.
 */
#pragma once
#include "netsetup/rtnl/link.h"

/*
 * The RTM_NEWADDR messages, one after the other, as the kernel sent them. addresses_read()
 * allocates the buffer; the caller releases it.
 */
struct addresses {
	struct strbuf messages;
};

#define _cleanup_addresses_ __attribute__((cleanup(addresses_release), unused))
void addresses_release(struct addresses *a);

/*
 * Reads the addresses of an interface that runtime-spec 1.3 wants to be kept: permanent addresses
 * (IFA_F_PERMANENT) of global scope (RT_SCOPE_UNIVERSE), of every family. If `all` is set, reads
 * also the addresses with a lifetime, such as those from DHCP, and the IPv4 addresses of every
 * scope. After a failure nothing needs releasing.
 */
int addresses_read(struct nl *nl, int ifindex, bool all, struct addresses *ret) must_check;

/*
 * Adds the addresses to the interface `to`, which was called old_name when the addresses were read.
 * Peer, broadcast, metric, lifetime, label and the flags that can be set are kept. An address that
 * the interface has already is skipped.
 */
int addresses_add(struct nl *nl, const struct addresses *a, const char *old_name,
	const struct link *to) must_check;
