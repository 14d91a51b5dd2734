/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes and removes interfaces, their addresses and their routes. Errors say what failed, and the
 * caller adds the name of the interface.
 */
#pragma once
#include "netsetup/rtnl/link.h"

struct device {
	struct link link;
	uint32_t mtu;
	int master; /* index of the bridge of which the interface is a port; 0: none */
	uint8_t mac[6];
	/* kind of the virtual interface, such as "bridge"; "": the interface is not virtual */
	char kind[16];
	/* index of a veth pair's other end, in the namespace of that end; 0: unknown */
	int peer;
};

/*
 * Reads an interface by its name, or by its index if name is NULL. Returns -ENODEV if the interface
 * does not exist.
 */
int device_read(struct nl *nl, const char *name, int index, struct device *ret) must_check;

/*
 * Reads the interface out of a datagram that replies to request number 1. Returns 1 if the reply is
 * complete, or 0 if more datagrams follow. Tests and the fuzzer call this function with bytes of
 * their own.
 */
int device_parse_reply(const void *data, size_t len, struct device *ret) must_check;

/*
 * Removes an interface. An interface that no longer exists is no error, and the function returns 0.
 */
int device_remove(struct nl *nl, int index) must_check;

/* the smallest and the largest MTU that the kernel's bridge and veth accept */
#define DEVICE_MTU_MIN 68
#define DEVICE_MTU_MAX 65535

/*
 * Starts a request that makes an interface. NLM_F_EXCL is always set, because without this flag the
 * kernel changes an existing interface of that name, whatever its kind. The caller puts
 * IFLA_LINKINFO.
 */
void device_request(struct nl_req *q, const char *name, uint32_t mtu, const uint8_t mac[6]);

int device_set_mtu(struct nl *nl, int index, uint32_t mtu) must_check;

/*
 * Adds an address to the interface, without duplicate address detection. Adding an address that
 * exists is no error. `raw` is the address in 4 or 16 bytes.
 */
int device_add_address(struct nl *nl, int index, uint8_t family, const void *raw, uint8_t prefix)
	must_check;

/* Returns 1 if the interface has the address `raw` with this prefix, else 0. */
int device_has_address(struct nl *nl, int index, uint8_t family, const void *raw, uint8_t prefix)
	must_check;

/*
 * Adds a default route. Returns 0 if the namespace has this route now, or 1 if the namespace has
 * another default route, which stays.
 */
int device_add_default_route(struct nl *nl, int index, uint8_t family, const void *gateway)
	must_check;

/*
 * Returns the MTU of the interface of the namespace's default route for IPv4 or, if there is none,
 * for IPv6. Returns 0 if there is no default route.
 */
int device_default_mtu(struct nl *nl) must_check;

/*
 * Calls fn for each route of the main table except default routes, as `ip route` lists them. If fn
 * returns another value than 0, stops and returns that value.
 */
typedef int device_route_fn(
	uint8_t family, const uint8_t *raw, uint8_t prefix, int index, void *arg);
int device_each_route(struct nl *nl, device_route_fn *fn, void *arg) must_check;
