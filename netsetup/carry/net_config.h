/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of a network namespace, to be carried into a guest (rtnetlink(7), packet(7)).
 *
 *	net_config_read(&a, netns_fd, &c)   the monitor: what an engine has put into the namespace
 *	net_tap_open(...)                   a tap for each interface (net_tap.h)
 *	net_config_json(&o, "network", &c)  to the guest
 *	net_config_parse(&a, json, &c)      in the guest; strict, as nothing but ours writes it
 *	net_config_apply(&c)                in the guest, whose devices have the interfaces' MACs
 *
 * All arrays are in the arena. Addresses are in network order, IPv4 in the first four bytes. The
 * bytes behind are zero. Errors name the interface, the route or the JSON field.
 */
#pragma once
#include <linux/rtnetlink.h>
#include <net/if.h>

#include "base/json.h"

#define NET_INTERFACES_MAX 8
#define NET_ADDRESSES_MAX 256 /* of one interface */
#define NET_ROUTES_MAX 4096
#define NET_NEIGHBOURS_MAX 4096

struct net_address {
	uint8_t family; /* AF_INET, AF_INET6 */
	uint8_t prefix, scope;
	bool has_peer, has_broadcast;
	uint32_t flags;  /* those of IFA_F_* that can be set */
	uint32_t metric; /* of the route that it implies; 0: the kernel's choice */
	uint8_t local[16], peer[16], broadcast[16];
};

/* Per-interface sysctls that decide whether it has addresses of its own making. */
struct net_ipv6 {
	bool disabled;
	uint8_t addr_gen_mode; /* enum in6_addr_gen_mode */
	uint8_t accept_ra, autoconf;
};

struct net_interface {
	char name[IFNAMSIZ];
	uint8_t mac[6];
	bool up;
	uint32_t mtu;
	struct net_ipv6 ipv6;
	const struct net_address *addresses;
	size_t address_count;
};

enum { NET_NONE = -1, NET_LO = -2 };

/* A route of the main table, other than those that addresses and router advertisements imply. */
struct net_route {
	uint8_t family, prefix, tos, scope;
	uint8_t type, protocol; /* RTN_*, RTPROT_* */
	bool onlink, has_source;
	uint8_t gateway_family; /* 0: no gateway; an IPv4 route can have an IPv6 one */
	int interface;          /* index of the array; NET_LO; NET_NONE, as for RTN_BLACKHOLE */
	uint32_t metric;
	uint32_t metrics[RTAX_QUICKACK + 1]; /* by RTAX_*; 0: not set */
	uint8_t dst[16], gateway[16], source[16];
};

/* A permanent entry. */
struct net_neighbour {
	uint8_t family;
	int interface;
	uint8_t address[16];
	uint8_t mac[6];
};

struct net_config {
	const struct net_interface *interfaces;
	size_t interface_count;
	const struct net_route *routes;
	size_t route_count;
	const struct net_neighbour *neighbours;
	size_t neighbour_count;
};

/*
 * netns_fd < 0: the calling thread's namespace. lo is left out (net_config_apply() brings the
 * guest's up), and so is what is down and can't be carried, such as the fallback devices of tunnel
 * modules. -EOPNOTSUPP, with its name, for an interface that is up and can't be carried: no
 * Ethernet, or the MAC address of another; and for a route that can't: multipath, encapsulated.
 *
 * IPv4 addresses with a lifetime are carried as permanent, as who renews them can't reach the
 * guest. IPv6 addresses from router advertisements are not: the guest gets them as the namespace
 * did. Other tables than main and policy rules stay behind, with a warning in the log.
 */
int net_config_read(struct arena *a, int netns_fd, struct net_config *ret) must_check;

/*
 * In the calling thread's network namespace, with /proc mounted there. Finds each interface by its
 * MAC address, which may have any name and is down. -ENODEV with name and MAC where there is none.
 */
int net_config_apply(const struct net_config *c) must_check;

/*
 * Moves the interfaces, found as above, from the calling thread's network namespace into another
 * one, where net_config_apply() will find them.
 */
int net_config_hand_over(const struct net_config *c, int netns_fd) must_check;

void net_config_json(struct json_out *o, const char *key, const struct net_config *c);

/* v NULL: -EINVAL as for any other value that is no object. */
int net_config_parse(struct arena *a, const struct json *v, struct net_config *ret) must_check;
