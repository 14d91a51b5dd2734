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
	/*
	 * index of a veth pair's other end, in the namespace of that end, or of the interface on
	 * which a VLAN, macvlan or ipvlan is built; 0: unknown
	 */
	int peer;
	char alias[80]; /* the first 79 characters of the interface's alias; "": no alias */
	uint16_t vlan;  /* VLAN ID; set for a VLAN */
	uint8_t mode;   /* mode; set for a bond */
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
 * IFLA_LINKINFO. If mtu is 0 or mac is NULL, the kernel chooses the value.
 */
void device_request(struct nl_req *q, const char *name, uint32_t mtu, const uint8_t mac[6]);

int device_set_mtu(struct nl *nl, int index, uint32_t mtu) must_check;
/*
 * Makes the interface a port of the interface with the index `master`. If `master` is 0, the
 * interface becomes a port of none.
 */
int device_set_master(struct nl *nl, int index, int master) must_check;
/*
 * Renames an interface and sets its alias in one step. So an interface that was made under the name
 * MARK, and gets MARK as its alias, can be found by MARK at any time.
 */
int device_rename(struct nl *nl, int index, const char *name, const char *alias) must_check;
/*
 * Finds the interface whose name or alias is `mark`. Returns -ENODEV without a message if no
 * interface has this mark.
 */
int device_find_mark(struct nl *nl, const char *mark, struct device *ret) must_check;
/* Adds an alternative name to the interface if `add` is set, else removes the name. */
int device_alt_name(struct nl *nl, int index, const char *name, bool add) must_check;

/*
 * device_add_address() adds an address to the interface, without duplicate address detection;
 * device_remove_address() removes an address. Adding an address that exists and removing an address
 * that does not exist are no errors. `raw` is the address in 4 or 16 bytes.
 */
int device_add_address(struct nl *nl, int index, uint8_t family, const void *raw, uint8_t prefix)
	must_check;

int device_remove_address(struct nl *nl, int index, uint8_t family, const void *raw, uint8_t prefix)
	must_check;

/*
 * Calls fn for each permanent address of global scope of the interface, and if `all` is set, also
 * for each address with a lifetime, such as one from DHCP, and for each IPv4 address of another
 * scope. If fn returns another value than 0, stops and returns it.
 */
typedef int device_address_fn(uint8_t family, const uint8_t *raw, uint8_t prefix, void *arg);
int device_each_address(struct nl *nl, int index, bool all, device_address_fn *fn, void *arg)
	must_check;

/* Returns 1 if the interface has the address `raw` with a prefix of `prefix` bits, else 0. */
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
