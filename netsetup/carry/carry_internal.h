/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what the files share that copy a namespace's network configuration into a guest. */
#pragma once
#include "netsetup/carry/net_config.h"
#include "netsetup/rtnl/netlink.h"

/* The address flags that a request can set. All other flags only report a state of the address. */
#define NET_ADDRESS_FLAGS \
	(IFA_F_NODAD | IFA_F_OPTIMISTIC | IFA_F_HOMEADDRESS | IFA_F_MANAGETEMPADDR | \
		IFA_F_NOPREFIXROUTE | IFA_F_MCAUTOJOIN)

/*
 * Returns the length of an address of the family in bytes, or 0 if caisson does not copy addresses
 * of this family into the guest.
 */
static inline size_t net_family_len(unsigned family)
{
	return family == AF_INET ? 4 : family == AF_INET6 ? 16 : 0;
}

/*
 * The size of a route's text. net_route_text() writes a route in the form that messages use, such
 * as "10.0.0.0/8".
 */
#define NET_ROUTE_TEXT 64
const char *net_route_text(const struct net_route *r, char buf[NET_ROUTE_TEXT]);

/*
 * Returns the name that ip-route(8) gives to an RTAX_* number, or NULL if the number has no name.
 */
const char *net_metric_name(unsigned rtax);

/*
 * The functions of conf.c name, read and write the sysctls of an interface. net_sysctl_name()
 * returns names such as "ipv4/rp_filter", and NULL behind the last sysctl. net_sysctls_read() reads
 * the attribute IFLA_AF_SPEC of an interface.
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
 * Reads the routes and neighbours of ret's interfaces. net_config_read() calls this function after
 * it has read the interfaces.
 */
int net_read_routes(struct nl *nl, struct arena *a, const struct net_indexes *at,
	struct net_config *ret) must_check;

/*
 * Asks the kernel for a list and passes each reply to fn, together with arg. fn gathers the entries
 * in *found. If the kernel reports that the list has changed during the dump, net_dump() empties
 * *found and asks again.
 */
int net_dump(struct nl *nl, struct nl_req *q, nl_reply_fn *fn, void *arg, struct strbuf *found)
	must_check;

/*
 * Copies the array that a dump has gathered in `found` into the arena. Each element has `size`
 * bytes.
 */
int net_keep(struct arena *a, const struct strbuf *found, size_t size, const void **ret,
	size_t *ret_count) must_check;
