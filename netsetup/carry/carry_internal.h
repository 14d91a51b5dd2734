/* SPDX-License-Identifier: Apache-2.0 */
/* What the files behind net_config.h share. Internal to netsetup/. */
#pragma once
#include "netsetup/carry/net_config.h"
#include "netsetup/rtnl/netlink.h"

/* The flags of addresses that can be set; the others report a state. */
#define NET_ADDRESS_FLAGS \
	(IFA_F_NODAD | IFA_F_OPTIMISTIC | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | \
		IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN)

#define NET_MAC_FORMAT "%02x:%02x:%02x:%02x:%02x:%02x"
#define NET_MAC_ARGS(m) (m)[0], (m)[1], (m)[2], (m)[3], (m)[4], (m)[5]

/* Bytes of an address; 0 for a family that is not carried. */
static inline size_t net_family_len(unsigned family)
{
	return family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
}

/* How a message names a route: "10.0.0.0/8". */
#define NET_ROUTE_TEXT 64
const char *net_route_text(const struct net_route *r, char buf[NET_ROUTE_TEXT]);

/* RTAX_* by the names that ip-route(8) gives them; NULL for numbers without one. */
const char *net_metric_name(unsigned rtax);

/* One index of the kernel's for each entry of c->interfaces. */
struct net_indexes {
	int lo;
	int of[NET_INTERFACES_MAX];
};

/* The second half of net_config_read(): routes and neighbours of ret's interfaces. */
int net_read_routes(struct nl *nl, struct arena *a, const struct net_indexes *at,
	struct net_config *ret) must_check;

/*
 * A dump, asked again while it is inconsistent. Each reply goes to fn, with arg; *found, which fn
 * fills, is emptied before each try.
 */
int net_dump(struct nl *nl, struct nl_req *q, nl_reply_fn *fn, void *arg, struct strbuf *found)
	must_check;

/* Moves an array that a dump has gathered into the arena. */
int net_keep(struct arena *a, const struct strbuf *found, size_t size, const void **ret,
	size_t *ret_count) must_check;
