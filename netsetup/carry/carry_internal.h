/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what the files of netsetup/carry/ share. */
#pragma once
#include "netsetup/carry/net_config.h"
#include "netsetup/rtnl/netlink.h"

/*
 * The flags of addresses that a request can set. The other flags only report a state of the
 * address.
 */
#define NET_ADDRESS_FLAGS \
	(IFA_F_NODAD | IFA_F_OPTIMISTIC | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | \
		IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN)

#define NET_MAC_FORMAT "%02x:%02x:%02x:%02x:%02x:%02x"
#define NET_MAC_ARGS(m) (m)[0], (m)[1], (m)[2], (m)[3], (m)[4], (m)[5]

/* Returns the length of an address of the family in bytes, or 0 if the family is not carried. */
static inline size_t net_family_len(unsigned family)
{
	return family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
}

/* Writes a route the way that messages name it, such as "10.0.0.0/8". */
#define NET_ROUTE_TEXT 64
const char *net_route_text(const struct net_route *r, char buf[NET_ROUTE_TEXT]);

/*
 * Returns the name that ip-route(8) gives to an RTAX_* number, or NULL if the number has no name.
 */
const char *net_metric_name(unsigned rtax);

/*
 * conf.c: names and reads the sysctls of an interface. net_sysctl_name() returns names such as
 * "ipv4/rp_filter", and NULL behind the last one. net_sysctls_read() reads the IFLA_AF_SPEC of a
 * link.
 */
const char *net_sysctl_name(unsigned i);
void net_sysctls_read(const struct nlattr *spec, struct net_sysctls *ret);
int net_sysctls_apply(int proc, const struct net_interface *of) must_check;

/* The kernel's indexes of lo and of each entry of c->interfaces. */
struct net_indexes {
	int lo;
	int of[NET_INTERFACES_MAX];
};

/*
 * Reads the routes and neighbours of ret's interfaces. net_config_read() calls it after it has read
 * the interfaces.
 */
int net_read_routes(struct nl *nl, struct arena *a, const struct net_indexes *at,
	struct net_config *ret) must_check;

/*
 * Asks the kernel for a list and passes each reply to fn, together with arg. fn gathers the entries
 * in *found. If the kernel reports that the list has changed while it was read, net_dump() empties
 * *found and asks again.
 */
int net_dump(struct nl *nl, struct nl_req *q, nl_reply_fn *fn, void *arg, struct strbuf *found)
	must_check;

/*
 * Copies the array that a dump has gathered in `found`, of elements of `size` bytes, into the
 * arena.
 */
int net_keep(struct arena *a, const struct strbuf *found, size_t size, const void **ret,
	size_t *ret_count) must_check;
