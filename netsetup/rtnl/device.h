/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a network is made of: interfaces that are made and removed, their addresses, their routes.
 * Errors say what failed; the caller adds the name of the interface.
 */
#pragma once
#include "netsetup/rtnl/link.h"

struct device {
	struct link link;
	uint32_t mtu;
	int master; /* index of the bridge that the interface is a port of; 0: none */
	uint8_t mac[6];
	char kind[16]; /* such as "bridge"; "": the interface is not a virtual one */
	int peer;      /* index of the other end of a veth pair, in its own namespace; 0: unknown */
};

/* Reads an interface by its name, or by its index if name is NULL. -ENODEV: there is none. */
int device_read(struct nl *nl, const char *name, int index, struct device *ret) must_check;

/*
 * Reads the interface out of a datagram of replies to the request number 1: 1 if the reply is
 * complete, 0 if more is to come. Only for tests, which can give it any bytes.
 */
int device_parse_reply(const void *data, size_t len, struct device *ret) must_check;

/* Removes an interface. 0 if there is none any more. */
int device_remove(struct nl *nl, int index) must_check;

/* The largest and the smallest MTU that the kernel's bridge and veth take. */
#define DEVICE_MTU_MIN 68
#define DEVICE_MTU_MAX 65535

/*
 * Starts a request that makes an interface. NLM_F_EXCL is always set, because without it the kernel
 * changes an existing interface of that name, whatever its kind. The caller puts IFLA_LINKINFO.
 */
void device_request(struct nl_req *q, const char *name, uint32_t mtu, const uint8_t mac[6]);

int device_set_mtu(struct nl *nl, int index, uint32_t mtu) must_check;

/*
 * Adds an address without duplicate address detection, and removes one. 0 if the interface has the
 * address already, or has it no more. `raw` is 4 or 16 bytes.
 */
int device_add_address(struct nl *nl, int index, uint8_t family, const void *raw, uint8_t prefix)
	must_check;

/* Whether the interface has that address with that prefix: 1 or 0. */
int device_has_address(struct nl *nl, int index, uint8_t family, const void *raw, uint8_t prefix)
	must_check;

/* Adds a default route. 0: it is there now; 1: the namespace has another one and keeps it. */
int device_add_default_route(struct nl *nl, int index, uint8_t family, const void *gateway)
	must_check;

/*
 * The MTU of the interface that the namespace's default route goes out of, for IPv4, else for IPv6.
 * 0: there is no route.
 */
int device_default_mtu(struct nl *nl) must_check;

/*
 * Calls fn for each route of the main table but default routes, as `ip route` lists them, until fn
 * returns something else than 0, which is then returned.
 */
typedef int device_route_fn(
	uint8_t family, const uint8_t *raw, uint8_t prefix, int index, void *arg);
int device_each_route(struct nl *nl, device_route_fn *fn, void *arg) must_check;
