/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of netsetup/carry/ share. */
#pragma once
#include "netsetup/carry/net_config.h"
#include "netsetup/rtnl/netlink.h"

/* The flags of addresses that a request can set; the other flags report a state. */
#define NET_ADDRESS_FLAGS \
	(IFA_F_NODAD | IFA_F_OPTIMISTIC | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | \
		IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN)

#define NET_MAC_FORMAT "%02x:%02x:%02x:%02x:%02x:%02x"
#define NET_MAC_ARGS(m) (m)[0], (m)[1], (m)[2], (m)[3], (m)[4], (m)[5]

/* The length of an address in bytes; 0: the family is not carried. */
static inline size_t net_family_len(unsigned family)
{
	return family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
}

/* Writes a route the way that messages name it, such as "10.0.0.0/8". */
#define NET_ROUTE_TEXT 64
const char *net_route_text(const struct net_route *r, char buf[NET_ROUTE_TEXT]);

/* The name that ip-route(8) gives to an RTAX_* number; NULL: the number has none. */
const char *net_metric_name(unsigned rtax);

/* The kernel's index of lo, and of each entry of c->interfaces. */
struct net_indexes {
	int lo;
	int of[NET_INTERFACES_MAX];
};

/* Reads the routes and neighbours of ret's interfaces: the second half of net_config_read(). */
int net_read_routes(struct nl *nl, struct arena *a, const struct net_indexes *at,
	struct net_config *ret) must_check;

/*
 * Asks the kernel for a list and passes each reply to fn, with arg. The kernel reports if the list
 * has changed while it was read; then net_dump() asks again. It empties *found, which fn fills,
 * before each try.
 */
int net_dump(struct nl *nl, struct nl_req *q, nl_reply_fn *fn, void *arg, struct strbuf *found)
	must_check;

/* Copies an array of elements of that size, which a dump has gathered, into the arena. */
int net_keep(struct arena *a, const struct strbuf *found, size_t size, const void **ret,
	size_t *ret_count) must_check;
