/* SPDX-License-Identifier: Apache-2.0 */
#include "netsetup/carry/net_config.h"

#include "base/str.h"

static int pick_routes(
	struct arena *a, const struct net_config *c, int interface, struct net_config *ret)
{
	struct net_route *routes = arena_array(a, c->route_count + 1, sizeof(*routes));
	struct net_neighbour *neighbours =
		arena_array(a, c->neighbour_count + 1, sizeof(*neighbours));

	if (!routes || !neighbours)
		return -ENOMEM;
	for (size_t i = 0; i < c->route_count; i++) {
		if (c->routes[i].interface != interface)
			continue;
		routes[ret->route_count] = c->routes[i];
		routes[ret->route_count++].interface = 0;
	}
	for (size_t i = 0; i < c->neighbour_count; i++) {
		if (c->neighbours[i].interface != interface)
			continue;
		neighbours[ret->neighbour_count] = c->neighbours[i];
		neighbours[ret->neighbour_count++].interface = 0;
	}
	ret->routes = routes;
	ret->neighbours = neighbours;
	return 0;
}

int net_config_pick(
	struct arena *a, const struct net_config *c, const char *name, struct net_config *ret)
{
	for (size_t i = 0; i < c->interface_count; i++) {
		if (!streq(c->interfaces[i].name, name))
			continue;
		*ret = (struct net_config){.interfaces = &c->interfaces[i], .interface_count = 1};
		return pick_routes(a, c, (int)i, ret);
	}
	return err_set(ENOENT,
		"the container's network namespace has no interface %.32s that a virtual machine "
		"can get",
		name);
}
