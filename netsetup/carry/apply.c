/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Puts a struct net_config into the guest's kernel.
 *
 * Theory of operation. The guest's kernel has named the devices in the order in which it found
 * them, so the final name of one device can at first be the name of another. Therefore every device
 * that has a wrong name gets a temporary name before any device gets its final name.
 *
 * Each device gets its addresses while it is down. IFA_F_NODAD makes the kernel skip duplicate
 * address detection, so that the addresses are usable at once. That is safe, because the host's
 * namespace has checked the addresses already, and the host's copies of them no longer receive a
 * frame. A carried link-local address keeps the kernel from making another one when the device is
 * set up.
 *
 * Routes come last, because their devices must be up, and a route with a gateway needs the route
 * that leads to the gateway.
 */
#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <net/if_arp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/path.h"
#include "netsetup/carry/carry_internal.h"
#include "netsetup/net.h"
#include "netsetup/rtnl/link.h"

struct finder {
	const struct net_config *c;
	struct net_indexes *at;
	char (*names)[IFNAMSIZ]; /* current names of the devices */
};

static int find_link(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *attrs[IFLA_IFNAME + 1];
	const struct ifinfomsg *info = nl_payload(h);
	struct finder *f = arg;
	uint8_t mac[6];

	int r = nl_attrs(h, sizeof(*info), attrs, IFLA_IFNAME);
	if (r < 0)
		return r;
	if (info->ifi_flags & IFF_LOOPBACK)
		f->at->lo = info->ifi_index;
	const char *name = nl_attr_str(attrs[IFLA_IFNAME], "");
	if (info->ifi_type != ARPHRD_ETHER || !nl_attr_copy(attrs[IFLA_ADDRESS], mac, 6) ||
		strlen(name) >= IFNAMSIZ)
		return 0;
	for (size_t i = 0; i < f->c->interface_count; i++) {
		const struct net_interface *want = &f->c->interfaces[i];

		if (memcmp(want->mac, mac, sizeof(mac)) != 0)
			continue;
		if (f->at->of[i] && f->at->of[i] != info->ifi_index)
			return err_set(ENOTUNIQ,
				"two network devices have the MAC address " STR_MAC_FORMAT
				" of %s: %s and %s",
				STR_MAC_ARGS(mac), want->name, f->names[i], name);
		f->at->of[i] = info->ifi_index;
		memcpy(f->names[i], name, strlen(name) + 1);
	}
	return 0;
}

static int rename_link(struct nl *nl, int index, const char *name)
{
	struct nl_req q;

	nl_req_link(&q, RTM_NEWLINK, 0, index);
	nl_put_str(&q, IFLA_IFNAME, name);
	return nl_call(nl, &q, NULL, NULL);
}

static int find_links(
	struct nl *nl, const struct net_config *c, struct net_indexes *at, char names[][IFNAMSIZ])
{
	_cleanup_strbuf_ struct strbuf none = {0};
	struct finder f = {c, at, names};
	struct nl_req q;

	nl_req_link(&q, RTM_GETLINK, NLM_F_DUMP, 0);
	int r = net_dump(nl, &q, find_link, &f, &none);
	for (size_t i = 0; r >= 0 && i < c->interface_count; i++)
		if (!at->of[i])
			return err_set(ENODEV,
				"no network device has the MAC address " STR_MAC_FORMAT " of %s",
				STR_MAC_ARGS(c->interfaces[i].mac), c->interfaces[i].name);
	return r;
}

int net_config_hand_over(const struct net_config *c, int netns_fd)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	char names[NET_INTERFACES_MAX][IFNAMSIZ] = {0};
	struct net_indexes at = {0};

	int r = nl_open(&nl, -EBADF);
	if (r >= 0)
		r = find_links(&nl, c, &at, names);
	for (size_t i = 0; r >= 0 && i < c->interface_count; i++) {
		struct nl_req q;

		nl_req_link(&q, RTM_NEWLINK, 0, at.of[i]);
		nl_put_u32(&q, IFLA_NET_NS_FD, (uint32_t)netns_fd);
		r = nl_call(&nl, &q, NULL, NULL);
		if (r < 0)
			return err_ctx(r, "move %s into the network namespace", names[i]);
	}
	return r;
}

/*
 * Finds the device of each interface by its MAC address and gives the device the interface's name.
 */
static int name_links(struct nl *nl, const struct net_config *c, struct net_indexes *at)
{
	char names[NET_INTERFACES_MAX][IFNAMSIZ] = {0};

	int r = find_links(nl, c, at, names);
	/*
	 * The first round gives temporary names, in which the kernel replaces %d with a free
	 * number; the second round gives the final names. One round would fail if one device had
	 * the name that another device is to get.
	 */
	for (int round = 0; round < 2; round++)
		for (size_t i = 0; r >= 0 && i < c->interface_count; i++) {
			const char *name = c->interfaces[i].name;

			if (streq(names[i], name))
				continue;
			r = round == 0 ? link_set_flags(nl, at->of[i], 0, IFF_UP) : 0;
			if (r >= 0)
				r = rename_link(nl, at->of[i], round ? name : "carried%d");
			if (r < 0)
				return err_ctx(r, "rename %s to %s", names[i], name);
		}
	return r;
}

static int write_sysctl(int proc, const struct net_interface *i, const char *name, unsigned value)
{
	char path[96], text[12];

	snprintf(path, sizeof(path), "sys/net/ipv6/conf/%s/%s", i->name, name);
	snprintf(text, sizeof(text), "%u", value);
	int r = path_write_proc(proc, path, text);
	return r < 0 ? err_ctx(r, "write %s to /proc/%s", text, path) : 0;
}

static int apply_ipv6(int proc, const struct net_interface *i)
{
	bool needed = false;

	for (size_t k = 0; k < i->address_count; k++)
		needed |= i->addresses[k].family == AF_INET6;
	_cleanup_fd_ int dir = path_open_in_proc(proc, "sys/net/ipv6", O_RDONLY | O_DIRECTORY);
	if (dir == -ENOENT) {
		if (needed)
			return err_set(EAFNOSUPPORT,
				"it has an IPv6 address, but this kernel has no IPv6");
		err_clear();
		return 0;
	}
	if (dir < 0)
		return err_ctx(dir, "open /proc/sys/net/ipv6");
	/*
	 * A device whose MTU is below the minimum of IPv6 (1280) has no sysctls for IPv6, because
	 * the kernel has no IPv6 on it.
	 */
	if (i->mtu < 1280)
		return 0;
	int r = write_sysctl(proc, i, "disable_ipv6", i->ipv6.disabled);
	if (r >= 0)
		r = write_sysctl(proc, i, "accept_ra", i->ipv6.accept_ra);
	if (r >= 0)
		r = write_sysctl(proc, i, "autoconf", i->ipv6.autoconf);
	/*
	 * Leaves mode 2 (stable privacy) out, because it derives addresses from a secret that only
	 * the host's namespace has. The guest does not need the mode, because it gets the address
	 * that the namespace derived.
	 */
	if (r >= 0 && i->ipv6.addr_gen_mode != IN6_ADDR_GEN_MODE_STABLE_PRIVACY)
		r = write_sysctl(proc, i, "addr_gen_mode", i->ipv6.addr_gen_mode);
	return r;
}

static int apply_address(struct nl *nl, int index, const struct net_address *a)
{
	uint32_t flags = a->flags | (a->family == AF_INET6 ? IFA_F_NODAD : 0);
	size_t len = net_family_len(a->family);
	char text[INET6_ADDRSTRLEN];
	struct nl_req q;

	/*
	 * Removes IFA_F_OPTIMISTIC, because this flag asks for duplicate address detection, and the
	 * guest gets its addresses without that detection (IFA_F_NODAD).
	 */
	flags &= ~(uint32_t)(IFA_F_OPTIMISTIC);
	nl_req_init(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL,
		&(struct ifaddrmsg){.ifa_family = a->family,
			.ifa_prefixlen = a->prefix,
			.ifa_scope = a->scope,
			.ifa_flags = (uint8_t)flags,
			.ifa_index = (unsigned)index},
		sizeof(struct ifaddrmsg));
	nl_put_u32(&q, IFA_FLAGS, flags);
	nl_put(&q, IFA_LOCAL, a->local, len);
	nl_put(&q, IFA_ADDRESS, a->has_peer ? a->peer : a->local, len);
	if (a->has_broadcast)
		nl_put(&q, IFA_BROADCAST, a->broadcast, len);
	if (a->label[0])
		nl_put_str(&q, IFA_LABEL, a->label);
	if (a->metric)
		nl_put_u32(&q, IFA_RT_PRIORITY, a->metric);
	if (a->protocol)
		nl_put(&q, IFA_PROTO, &a->protocol, sizeof(a->protocol));
	int r = nl_call(nl, &q, NULL, NULL);
	if (r >= 0 || r == -EEXIST)
		return 0;
	return err_ctx(r, "add the address %s/%u",
		inet_ntop(a->family, a->local, text, sizeof(text)) ? text : "?", a->prefix);
}

static int apply_interface(struct nl *nl, int index, const struct net_interface *i)
{
	struct nl_req q;

	nl_req_link(&q, RTM_NEWLINK, 0, index);
	nl_put_u32(&q, IFLA_MTU, i->mtu);
	if (i->has_tx_queue)
		nl_put_u32(&q, IFLA_TXQLEN, i->tx_queue);
	int r = nl_call(nl, &q, NULL, NULL);
	if (r < 0)
		return err_ctx(r, "set its MTU to %u", i->mtu);
	_cleanup_fd_ int proc = path_open_proc();
	r = proc < 0 ? proc : apply_ipv6(proc, i);
	if (r >= 0)
		r = net_sysctls_apply(proc, i);
	for (size_t k = 0; r >= 0 && k < i->address_count; k++)
		r = apply_address(nl, index, &i->addresses[k]);
	if (r >= 0)
		r = link_set_flags(nl, index, i->up ? IFF_UP : 0, i->up ? 0 : IFF_UP);
	return r;
}

static int index_of(const struct net_indexes *at, int interface)
{
	return interface >= 0 ? at->of[interface] : interface == NET_LO ? at->lo : 0;
}

static void put_gateway(struct nl_req *q, const struct net_route *route)
{
	size_t len = net_family_len(route->gateway_family);
	struct {
		struct rtvia head;
		uint8_t address[16];
	} via = {.head.rtvia_family = route->gateway_family};

	if (route->gateway_family == route->family) {
		nl_put(q, RTA_GATEWAY, route->gateway, len);
		return;
	}
	memcpy((char *)&via + sizeof(via.head), route->gateway, len);
	nl_put(q, RTA_VIA, &via, sizeof(via.head) + len);
}

static int apply_route(struct nl *nl, const struct net_indexes *at, const struct net_route *route)
{
	size_t len = net_family_len(route->family);
	int index = index_of(at, route->interface);
	char text[NET_ROUTE_TEXT];
	struct nl_req q;

	/*
	 * NLM_F_APPEND keeps several IPv4 routes of one prefix and metric side by side. IPv6 routes
	 * get NLM_F_EXCL, because with NLM_F_APPEND the kernel would join such routes to a
	 * multipath route.
	 */
	nl_req_init(&q, RTM_NEWROUTE,
		NLM_F_CREATE | (route->family == AF_INET ? NLM_F_APPEND : NLM_F_EXCL),
		&(struct rtmsg){.rtm_family = route->family,
			.rtm_dst_len = route->prefix,
			.rtm_tos = route->tos,
			.rtm_table = RT_TABLE_MAIN,
			.rtm_protocol = route->protocol,
			.rtm_scope = route->scope,
			.rtm_type = route->type,
			.rtm_flags = route->onlink ? RTNH_F_ONLINK : 0},
		sizeof(struct rtmsg));
	if (route->prefix)
		nl_put(&q, RTA_DST, route->dst, len);
	if (index)
		nl_put_u32(&q, RTA_OIF, (uint32_t)index);
	if (route->gateway_family)
		put_gateway(&q, route);
	if (route->has_source)
		nl_put(&q, RTA_PREFSRC, route->source, len);
	if (route->metric)
		nl_put_u32(&q, RTA_PRIORITY, route->metric);
	size_t nest = nl_nest(&q, RTA_METRICS);
	for (uint16_t i = 0; i < ARRAY_SIZE(route->metrics); i++)
		if (route->metrics[i])
			nl_put_u32(&q, i, route->metrics[i]);
	nl_nest_end(&q, nest);
	int r = nl_call(nl, &q, NULL, NULL);
	if (r >= 0 || r == -EEXIST)
		return 0;
	return err_ctx(r, "add the route to %s", net_route_text(route, text));
}

/*
 * Sorts routes without a gateway before those with a gateway, then the narrower scope before the
 * wider one, because the kernel accepts a gateway only if a route of narrower scope leads to it.
 */
static int by_route_need(const void *a, const void *b)
{
	const struct net_route *x = *(const struct net_route *const *)a;
	const struct net_route *y = *(const struct net_route *const *)b;
	int gateway = (x->gateway_family != 0) - (y->gateway_family != 0);

	if (gateway || x->scope != y->scope)
		return gateway ? gateway : y->scope - x->scope;
	/* Routes that compare equal keep their order, because x and y point into one array. */
	return x < y ? -1 : x > y;
}

static int apply_routes(struct nl *nl, const struct net_config *c, const struct net_indexes *at)
{
	_cleanup_free_ const struct net_route **order = calloc(c->route_count + 1, sizeof(*order));
	int r = 0;

	if (!order)
		return err_set(ENOMEM, "out of memory");
	for (size_t i = 0; i < c->route_count; i++)
		order[i] = &c->routes[i];
	qsort(order, c->route_count, sizeof(*order), by_route_need);
	for (size_t i = 0; r >= 0 && i < c->route_count; i++)
		r = apply_route(nl, at, order[i]);
	return r;
}

static int apply_neighbour(
	struct nl *nl, const struct net_indexes *at, const struct net_neighbour *n)
{
	char text[INET6_ADDRSTRLEN];
	struct nl_req q;

	nl_req_init(&q, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE,
		&(struct ndmsg){.ndm_family = n->family,
			.ndm_ifindex = index_of(at, n->interface),
			.ndm_state = NUD_PERMANENT},
		sizeof(struct ndmsg));
	nl_put(&q, NDA_DST, n->address, net_family_len(n->family));
	nl_put(&q, NDA_LLADDR, n->mac, sizeof(n->mac));
	int r = nl_call(nl, &q, NULL, NULL);
	if (r < 0)
		return err_ctx(r, "add the neighbour %s",
			inet_ntop(n->family, n->address, text, sizeof(text)) ? text : "?");
	return 0;
}

int net_config_apply(const struct net_config *c)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct net_indexes at = {0};

	int r = net_loopback_up();
	if (r >= 0)
		r = nl_open(&nl, -EBADF);
	if (r >= 0)
		r = name_links(&nl, c, &at);
	for (size_t i = 0; r >= 0 && i < c->interface_count; i++) {
		r = apply_interface(&nl, at.of[i], &c->interfaces[i]);
		if (r < 0)
			return err_ctx(r, "network interface %s", c->interfaces[i].name);
	}
	if (r >= 0)
		r = apply_routes(&nl, c, &at);
	for (size_t i = 0; r >= 0 && i < c->neighbour_count; i++)
		r = apply_neighbour(&nl, &at, &c->neighbours[i]);
	return r;
}
