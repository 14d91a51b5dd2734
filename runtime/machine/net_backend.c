/* SPDX-License-Identifier: Apache-2.0 */
#include "machine/net_backend.h"

#include <sys/socket.h>

#include "base/hash.h"
#include "base/str.h"

#define MTU_DEFAULT 1500

void net_backend_mac(const struct spec_vm_net *n, const char *id, uint8_t ret[6])
{
	uint64_t hash = hash_add(HASH_START, id, strlen(id));

	memcpy(ret, n->mac, sizeof(n->mac));
	if (n->has_mac)
		return;
	for (int i = 1; i < 6; i++)
		ret[i] = (uint8_t)(hash >> (8 * i));
	ret[0] = 2; /* first byte of a unicast, locally administered address */
}

static int check_conflicts(
	const struct spec_vm_net *n, const uint8_t mac[6], const struct net_config *c)
{
	if (c->interface_count >= NET_INTERFACES_MAX)
		return err_set(ENOSPC,
			"the container's network namespace has %zu interfaces: with this one a "
			"microVM takes %d",
			c->interface_count, NET_INTERFACES_MAX);
	for (size_t i = 0; i < c->interface_count; i++) {
		const struct net_interface *other = &c->interfaces[i];
		if (streq(other->name, n->name))
			return err_set(EEXIST,
				"the container's network namespace has an interface %s already: "
				"give this one another name=",
				n->name);
		if (memcmp(other->mac, mac, 6) == 0)
			return err_set(EEXIST,
				"interface %s of the container's network namespace has the same "
				"MAC address: give this one another mac=",
				other->name);
	}
	for (size_t i = 0; i < c->route_count; i++)
		for (size_t k = 0; k < n->gateways.n; k++)
			if (!c->routes[i].prefix && c->routes[i].family == n->gateways.v[k].family)
				return err_set(EEXIST,
					"gateway: %s: the container's network namespace has a "
					"default route already",
					n->gateways.v[k].text);
	return 0;
}

static int add_addresses(struct arena *a, const struct spec_ips *from, struct net_interface *to)
{
	struct net_address *list = arena_array(a, from->n + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	for (size_t i = 0; i < from->n; i++) {
		const struct spec_ip *ip = &from->v[i];
		list[i] = (struct net_address){.family = ip->family, .prefix = ip->prefix};
		memcpy(list[i].local, ip->bytes, sizeof(ip->bytes));
		/*
		 * Sets a kernel parameter that switches router advertisements off for an interface
		 * with configured IPv6 addresses, so that the interface gets no other addresses
		 * from a router.
		 */
		if (ip->family == AF_INET6)
			to->ipv6.accept_ra = to->ipv6.autoconf = 0;
	}
	to->addresses = list;
	to->address_count = from->n;
	return 0;
}

static int add_interface(
	struct arena *a, const struct spec_vm_net *n, const uint8_t mac[6], struct net_config *c)
{
	struct net_interface *list = arena_array(a, c->interface_count + 1, sizeof(*list));
	struct net_interface *new = list ? &list[c->interface_count] : NULL;

	if (!new)
		return -ENOMEM;
	if (c->interface_count)
		memcpy(list, c->interfaces, c->interface_count * sizeof(*list));
	*new = (struct net_interface){.up = true,
		.mtu = n->mtu ? n->mtu : MTU_DEFAULT,
		.ipv6 = {.accept_ra = 1, .autoconf = 1}};
	memcpy(new->mac, mac, sizeof(new->mac));
	memcpy(new->name, n->name,
		/*
		 * The interface's name fits into `name`, because the parser of config.json checked
		 * its length.
		 */
		strlen(n->name) + 1);
	c->interfaces = list;
	c->interface_count++;
	return add_addresses(a, &n->addresses, new);
}

static int add_routes(struct arena *a, const struct spec_ips *gateways, struct net_config *c)
{
	struct net_route *list = arena_array(a, c->route_count + gateways->n + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	if (c->route_count)
		memcpy(list, c->routes, c->route_count * sizeof(*list));
	for (size_t i = 0; i < gateways->n; i++) {
		const struct spec_ip *ip = &gateways->v[i];
		struct net_route *new = &list[c->route_count++];

		*new = (struct net_route){.family = ip->family,
			.scope = RT_SCOPE_UNIVERSE,
			.type = RTN_UNICAST,
			.protocol = RTPROT_STATIC,
			.gateway_family = ip->family,
			.interface = (int)c->interface_count - 1};
		memcpy(new->gateway, ip->bytes, sizeof(ip->bytes));
	}
	c->routes = list;
	return 0;
}

int net_backend_add(
	struct arena *a, const struct spec_vm_net *n, const uint8_t mac[6], struct net_config *c)
{
	int r = check_conflicts(n, mac, c);

	if (r >= 0)
		r = add_interface(a, n, mac, c);
	return r < 0 ? r : add_routes(a, &n->gateways, c);
}
