/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses that travel with their interface. Internal to netsetup/. */
#pragma once
#include "netsetup/rtnl/link.h"

/* Messages of type RTM_NEWADDR, one after the other, as the kernel gave them. Release the buffer.
 */
struct addresses {
	struct strbuf messages;
};

#define _cleanup_addresses_ __attribute__((cleanup(addresses_release), unused))
void addresses_release(struct addresses *a);

/*
 * The interface's addresses that runtime-spec 1.3 wants kept: permanent ones (IFA_F_PERMANENT) of
 * global scope (RT_SCOPE_UNIVERSE), of every family. On failure nothing needs releasing.
 */
int addresses_read(struct nl *nl, int ifindex, struct addresses *ret) must_check;

/*
 * Gives them to the interface `to`, which was called old_name when they were read. Peer, broadcast,
 * metric, lifetime, label and the settable flags are kept. An address it has already is passed
 * over.
 */
int addresses_add(struct nl *nl, const struct addresses *a, const char *old_name,
	const struct link *to) must_check;
