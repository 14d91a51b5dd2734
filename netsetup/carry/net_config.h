/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Describes the configuration of a network namespace, so that it can be carried into a guest
 * (rtnetlink(7), packet(7)).
 *
 *	net_config_read(&a, netns_fd, &c)   monitor: reads what an engine has put into the namespace
 *	net_tap_open(...)                   monitor: makes a tap for each interface (net_tap.h)
 *	net_config_json(&o, "network", &c)  monitor: writes the configuration for the guest
 *	net_config_parse(&a, json, &c)      guest: reads it; refuses what the monitor never writes
 *	net_config_apply(&c)                guest: sets up its devices, found by their MAC addresses
 *
 * All arrays are in the arena. Addresses are in network order; an IPv4 address is in the first four
 * bytes, and the other bytes are zero. Errors name the interface, the route or the JSON field.
 */
#pragma once
#include <linux/rtnetlink.h>
#include <net/if.h>

#include "base/json.h"

#define NET_INTERFACES_MAX 8
#define NET_ADDRESSES_MAX 256 /* largest number of addresses of one interface */
#define NET_ROUTES_MAX 4096
#define NET_NEIGHBOURS_MAX 4096

struct net_address {
	uint8_t family; /* AF_INET or AF_INET6 */
	uint8_t prefix, scope;
	bool has_peer, has_broadcast;
	uint32_t flags; /* IFA_F_* flags of the address, only those that a request can set */
	/* metric of the route that the kernel adds for the address; 0: the kernel's default */
	uint32_t metric;
	uint8_t protocol; /* who made the address, an IFAPROT_* value or a user's own; 0: unknown */
	uint8_t local[16], peer[16], broadcast[16];
	char label[IFNAMSIZ]; /* label of an IPv4 address; "": the interface's name */
};

/* The sysctls of an interface that decide whether the kernel gives it IPv6 addresses by itself. */
struct net_ipv6 {
	bool disabled;
	uint8_t addr_gen_mode; /* a value of enum in6_addr_gen_mode */
	uint8_t accept_ra, autoconf;
};

/*
 * The number of sysctls in the table of conf.c. They are those sysctls of an interface that struct
 * net_ipv6 does not have. Only the ones whose value differs from a new interface's are copied into
 * the guest.
 */
#define NET_SYSCTLS 52
struct net_sysctls {
	bool set[NET_SYSCTLS];
	int32_t value[NET_SYSCTLS]; /* value of each sysctl that is set; 0 for all others */
};

struct net_interface {
	char name[IFNAMSIZ];
	uint8_t mac[6];
	bool up;
	uint32_t mtu;
	bool has_tx_queue; /* tx_queue differs from the kernel's default for Ethernet devices */
	uint32_t tx_queue; /* length of the transmit queue in packets (txqueuelen) */
	struct net_ipv6 ipv6;
	struct net_sysctls sysctls;
	const struct net_address *addresses;
	size_t address_count;
};

#define NET_TX_QUEUE_DEFAULT 1000

enum { NET_NONE = -1, NET_LO = -2 };

/*
 * A route of the main table. Routes that the kernel adds by itself, for addresses and router
 * advertisements, are left out.
 */
struct net_route {
	uint8_t family, prefix, tos, scope;
	uint8_t type, protocol; /* a value RTN_* of rtnetlink(7), and a value RTPROT_* */
	bool onlink, has_source;
	/*
	 * family of the gateway; 0: the route has no gateway; an IPv4 route can have an IPv6
	 * gateway
	 */
	uint8_t gateway_family;
	/*
	 * index of the route's interface in `interfaces`; NET_LO; or NET_NONE for routes without a
	 * device such as RTN_BLACKHOLE
	 */
	int interface;
	uint32_t metric;
	/* values of the metrics, indexed by RTAX_*; 0: not set */
	uint32_t metrics[RTAX_QUICKACK + 1];
	uint8_t dst[16], gateway[16], source[16];
};

/* A permanent entry of the neighbour table. */
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
 * Reads the configuration of the network namespace netns_fd, or of the calling thread's namespace
 * if netns_fd is < 0. lo is left out, because net_config_apply() sets the guest's own lo up. An
 * interface that is down and cannot be carried is left out too, for example the fallback devices of
 * tunnel modules.
 *
 * Returns -EOPNOTSUPP if an interface that is up cannot be carried, because it is no Ethernet
 * device or has the MAC address of another interface, or if a route cannot be carried, because it
 * is multipath or encapsulated. The message names the interface or the route.
 *
 * IPv4 addresses with a lifetime are carried as permanent addresses, because the program that
 * renews them cannot reach the guest. IPv6 addresses from router advertisements are not carried,
 * because the guest receives the same advertisements. Policy rules and the routes of other tables
 * than main are not carried either; a warning in the log says so.
 */
int net_config_read(struct arena *a, int netns_fd, struct net_config *ret) must_check;

/*
 * Makes a configuration that has only the interface `name` of *c, and its routes and neighbours.
 * Returns -ENOENT with a message if *c has no such interface.
 */
int net_config_pick(struct arena *a, const struct net_config *c, const char *name,
	struct net_config *ret) must_check;

/*
 * Sets up the calling thread's network namespace; /proc must be mounted there. Finds the device of
 * each interface by its MAC address; the device may have any name, and must be down. Returns
 * -ENODEV if no device has the MAC address of an interface; the message has the interface and the
 * address.
 */
int net_config_apply(const struct net_config *c) must_check;

/*
 * Moves the devices of the interfaces from the calling thread's network namespace into another
 * namespace, in which net_config_apply() will set them up. Finds the devices by their MAC
 * addresses.
 */
int net_config_hand_over(const struct net_config *c, int netns_fd) must_check;

void net_config_json(struct json_out *o, const char *key, const struct net_config *c);

/*
 * Parses the JSON that net_config_json() wrote. Returns -EINVAL if v is NULL, is no object, or
 * differs from what net_config_json() writes; the message names the member.
 */
int net_config_parse(struct arena *a, const struct json *v, struct net_config *ret) must_check;
