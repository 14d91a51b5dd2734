/* SPDX-License-Identifier: Apache-2.0 */
#include "netsetup/rtnl/device.h"

#include <arpa/inet.h>
#include <linux/if_link.h>
#include <stdio.h>
#include <sys/socket.h>

#include "netsetup/rtnl/address.h"

static size_t address_len(uint8_t family)
{
	return family == AF_INET ? 4 : 16;
}

static int read_device(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *attrs[IFLA_IFALIAS + 1], *data;
	const struct ifinfomsg *info = nl_payload(h);
	struct device *ret = arg;
	const char *name, *kind;

	int r = nl_attrs(h, sizeof(*info), attrs, IFLA_IFALIAS);
	if (r < 0)
		return r;
	name = nl_attr_str(attrs[IFLA_IFNAME], "");
	if (!name[0] || strlen(name) >= sizeof(ret->link.name) || info->ifi_index <= 0)
		return err_set(EBADMSG, "rtnetlink: a reply has a link without a name or an index");
	ret->link.index = info->ifi_index;
	ret->link.flags = info->ifi_flags;
	memcpy(ret->link.name, name, strlen(name) + 1);
	ret->mtu = nl_attr_u32(attrs[IFLA_MTU], 0);
	ret->master = (int)nl_attr_u32(attrs[IFLA_MASTER], 0);
	ret->peer = (int)nl_attr_u32(attrs[IFLA_LINK], 0);
	(void)nl_attr_copy(attrs[IFLA_ADDRESS], ret->mac, sizeof(ret->mac));
	kind = nl_attr_str(nl_attr_in(attrs[IFLA_LINKINFO], IFLA_INFO_KIND), "");
	snprintf(ret->kind, sizeof(ret->kind), "%s", kind);
	snprintf(ret->alias, sizeof(ret->alias), "%.*s", (int)sizeof(ret->alias) - 1,
		nl_attr_str(attrs[IFLA_IFALIAS], ""));
	data = nl_attr_in(attrs[IFLA_LINKINFO], IFLA_INFO_DATA);
	if (streq(kind, "vlan"))
		(void)nl_attr_copy(nl_attr_in(data, IFLA_VLAN_ID), &ret->vlan, sizeof(ret->vlan));
	if (streq(kind, "bond"))
		(void)nl_attr_copy(nl_attr_in(data, IFLA_BOND_MODE), &ret->mode, sizeof(ret->mode));
	return 0;
}

int device_read(struct nl *nl, const char *name, int index, struct device *ret)
{
	struct device found = {0};
	struct nl_req q;
	int r;

	nl_req_link(&q, RTM_GETLINK, 0, name ? 0 : index);
	if (name)
		nl_put_str(&q, IFLA_IFNAME, name);
	r = nl_call(nl, &q, read_device, &found);
	if (r < 0)
		return r;
	if (found.link.index == 0)
		return err_set(EBADMSG, "rtnetlink: the reply has no link");
	*ret = found;
	return 0;
}

int device_parse_reply(const void *data, size_t len, struct device *ret)
{
	return nl_read_replies(data, len, 1, read_device, ret);
}

int device_remove(struct nl *nl, int index)
{
	struct nl_req q;
	int r;

	nl_req_link(&q, RTM_DELLINK, 0, index);
	r = nl_call(nl, &q, NULL, NULL);
	if (r != -ENODEV)
		return r;
	err_clear();
	return 0;
}

void device_request(struct nl_req *q, const char *name, uint32_t mtu, const uint8_t mac[6])
{
	nl_req_link(q, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0);
	nl_put_str(q, IFLA_IFNAME, name);
	if (mtu)
		nl_put_u32(q, IFLA_MTU, mtu);
	if (mac)
		nl_put(q, IFLA_ADDRESS, mac, 6);
}

int device_set_mtu(struct nl *nl, int index, uint32_t mtu)
{
	struct nl_req q;

	nl_req_link(&q, RTM_NEWLINK, 0, index);
	nl_put_u32(&q, IFLA_MTU, mtu);
	return nl_call(nl, &q, NULL, NULL);
}

int device_set_master(struct nl *nl, int index, int master)
{
	struct nl_req q;

	nl_req_link(&q, RTM_NEWLINK, 0, index);
	nl_put_u32(&q, IFLA_MASTER, (uint32_t)master);
	return nl_call(nl, &q, NULL, NULL);
}

int device_rename(struct nl *nl, int index, const char *name, const char *alias)
{
	struct nl_req q;

	nl_req_link(&q, RTM_NEWLINK, 0, index);
	nl_put_str(&q, IFLA_IFNAME, name);
	nl_put_str(&q, IFLA_IFALIAS, alias);
	return nl_call(nl, &q, NULL, NULL);
}

int device_alt_name(struct nl *nl, int index, const char *name, bool add)
{
	struct nl_req q;

	nl_req_link(&q, add ? RTM_NEWLINKPROP : RTM_DELLINKPROP,
		add ? NLM_F_CREATE | NLM_F_EXCL | NLM_F_APPEND : 0, index);
	size_t list = nl_nest(&q, IFLA_PROP_LIST);
	nl_put_str(&q, IFLA_ALT_IFNAME, name);
	nl_nest_end(&q, list);
	return nl_call(nl, &q, NULL, NULL);
}

struct mark {
	const char *text;
	/*
	 * the interface whose name or alias is `text`; its index is 0 if there is no such interface
	 */
	struct device found;
};

static int compare_mark(const struct nlmsghdr *h, void *arg)
{
	struct mark *m = arg;
	struct device d = {0};
	int r = read_device(h, &d);

	if (r >= 0 && (streq(d.link.name, m->text) || streq(d.alias, m->text)))
		m->found = d;
	return r;
}

int device_find_mark(struct nl *nl, const char *mark, struct device *ret)
{
	struct mark m = {.text = mark};
	int r = -EINTR;

	for (int tries = 0; r == -EINTR && tries < 10; tries++) {
		struct nl_req q;

		nl_req_link(&q, RTM_GETLINK, NLM_F_DUMP, 0);
		r = nl_call(nl, &q, compare_mark, &m);
	}
	if (r < 0)
		return r;
	*ret = m.found;
	return m.found.link.index ? 0 : -ENODEV;
}

int device_add_address(struct nl *nl, int index, uint8_t family, const void *raw, uint8_t prefix)
{
	struct ifaddrmsg info = {.ifa_family = family,
		.ifa_prefixlen = prefix,
		.ifa_flags = IFA_F_NODAD,
		.ifa_index = (unsigned)index};
	size_t len = address_len(family);
	struct nl_req q;
	int r;

	nl_req_init(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	nl_put(&q, IFA_LOCAL, raw, len);
	nl_put(&q, IFA_ADDRESS, raw, len);
	/*
	 * Sends the broadcast address too, because the kernel does not compute the broadcast
	 * address of an IPv4 address itself.
	 */
	if (family == AF_INET && prefix < 31) {
		uint32_t broadcast;

		memcpy(&broadcast, raw, 4);
		broadcast |= __builtin_bswap32(UINT32_MAX >> prefix);
		nl_put(&q, IFA_BROADCAST, &broadcast, 4);
	}
	r = nl_call(nl, &q, NULL, NULL);
	if (r != -EEXIST)
		return r;
	err_clear();
	return 0;
}

int device_remove_address(struct nl *nl, int index, uint8_t family, const void *raw, uint8_t prefix)
{
	struct ifaddrmsg info = {
		.ifa_family = family, .ifa_prefixlen = prefix, .ifa_index = (unsigned)index};
	struct nl_req q;
	int r;

	nl_req_init(&q, RTM_DELADDR, 0, &info, sizeof(info));
	nl_put(&q, IFA_LOCAL, raw, address_len(family));
	r = nl_call(nl, &q, NULL, NULL);
	if (r != -EADDRNOTAVAIL)
		return r;
	err_clear();
	return 0;
}

int device_each_address(struct nl *nl, int index, bool all, device_address_fn *fn, void *arg)
{
	_cleanup_addresses_ struct addresses found = {0};
	const struct nlattr *attrs[IFA_FLAGS + 1];
	const struct nlmsghdr *h;
	int r = addresses_read(nl, index, all, &found);
	const char *at = found.messages.s;
	size_t left = found.messages.len;

	while (r == 0 && left && (h = nl_next_message(&at, &left))) {
		const struct ifaddrmsg *info = nl_payload(h);
		uint8_t raw[16];

		r = nl_attrs(h, sizeof(*info), attrs, IFA_FLAGS);
		if (r >= 0 && (info->ifa_family == AF_INET || info->ifa_family == AF_INET6) &&
			nl_attr_copy(attrs[attrs[IFA_LOCAL] ? IFA_LOCAL : IFA_ADDRESS], raw,
				address_len(info->ifa_family)))
			r = fn(info->ifa_family, raw, info->ifa_prefixlen, arg);
	}
	return r;
}

struct wanted_address {
	uint8_t family, prefix;
	const void *raw;
};

static int compare_address(uint8_t family, const uint8_t *raw, uint8_t prefix, void *arg)
{
	const struct wanted_address *w = arg;

	return family == w->family && prefix == w->prefix &&
	       memcmp(raw, w->raw, address_len(family)) == 0;
}

int device_has_address(struct nl *nl, int index, uint8_t family, const void *raw, uint8_t prefix)
{
	struct wanted_address w = {family, prefix, raw};

	return device_each_address(nl, index, true, compare_address, &w);
}

int device_add_default_route(struct nl *nl, int index, uint8_t family, const void *gateway)
{
	struct rtmsg info = {.rtm_family = family,
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST};
	struct nl_req q;
	int r;

	nl_req_init(&q, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	nl_put(&q, RTA_GATEWAY, gateway, address_len(family));
	nl_put_u32(&q, RTA_OIF, (uint32_t)index);
	r = nl_call(nl, &q, NULL, NULL);
	if (r != -EEXIST)
		return r;
	err_clear();
	return 1;
}

static int read_oif(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *attrs[RTA_OIF + 1];
	const struct rtmsg *info = nl_payload(h);
	int r = nl_attrs(h, sizeof(*info), attrs, RTA_OIF);

	if (r >= 0 && info->rtm_dst_len == 0)
		*(int *)arg = (int)nl_attr_u32(attrs[RTA_OIF], 0);
	return r;
}

/*
 * Returns the index of the interface by which a packet to the address `to` leaves, if the packet
 * takes a default route, else 0. With RTM_F_FIB_MATCH (Linux 4.13, for IPv6 4.15) the kernel
 * answers with the route itself instead of a copy for the address.
 */
static int route_out(struct nl *nl, uint8_t family, const char *to)
{
	struct rtmsg info = {.rtm_family = family,
		.rtm_dst_len = family == AF_INET ? 32 : 128,
		.rtm_flags = RTM_F_FIB_MATCH};
	uint8_t raw[16];
	struct nl_req q;
	int index = 0;

	if (inet_pton(family, to, raw) != 1)
		return 0;
	nl_req_init(&q, RTM_GETROUTE, 0, &info, sizeof(info));
	nl_put(&q, RTA_DST, raw, address_len(family));
	if (nl_call(nl, &q, read_oif, &index) < 0) {
		/* no error, because the kernel answers "unreachable" if there is no route */
		err_clear();
		return 0;
	}
	return index;
}

int device_default_mtu(struct nl *nl)
{
	/*
	 * Addresses for documentation (RFC 5737, RFC 3849), to which a host rarely has a route
	 * other than the default route. Asking the kernel for one route is quicker than listing all
	 * routes, of which a router has many.
	 */
	static const struct {
		uint8_t family;
		const char *to;
	} probes[] = {{AF_INET, "192.0.2.1"}, {AF_INET, "198.51.100.1"}, {AF_INET, "203.0.113.1"},
		{AF_INET6, "2001:db8::1"}, {AF_INET6, "3fff::1"}};
	struct device device;
	int index = 0, r;

	for (size_t i = 0; index <= 0 && i < ARRAY_SIZE(probes); i++)
		index = route_out(nl, probes[i].family, probes[i].to);
	if (index <= 0)
		return 0;
	r = device_read(nl, NULL, index, &device);
	if (r < 0)
		return r;
	return device.mtu > DEVICE_MTU_MAX ? DEVICE_MTU_MAX : (int)device.mtu;
}

struct route_reader {
	device_route_fn *fn;
	void *arg;
	int found;
};

static int read_route(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *attrs[RTA_TABLE + 1];
	const struct rtmsg *info = nl_payload(h);
	struct route_reader *reader = arg;
	uint8_t raw[16] = {0};

	int r = nl_attrs(h, sizeof(*info), attrs, RTA_TABLE);
	if (r < 0 || reader->found)
		return r;
	if ((info->rtm_family != AF_INET && info->rtm_family != AF_INET6) ||
		info->rtm_dst_len == 0 || info->rtm_flags & RTM_F_CLONED ||
		nl_attr_u32(attrs[RTA_TABLE], info->rtm_table) != RT_TABLE_MAIN ||
		!nl_attr_copy(attrs[RTA_DST], raw, address_len(info->rtm_family)))
		return 0;
	reader->found = reader->fn(info->rtm_family, raw, info->rtm_dst_len,
		(int)nl_attr_u32(attrs[RTA_OIF], 0), reader->arg);
	return reader->found < 0 ? reader->found : 0;
}

int device_each_route(struct nl *nl, device_route_fn *fn, void *arg)
{
	static const uint8_t families[] = {AF_INET, AF_INET6};
	struct route_reader reader = {fn, arg, 0};
	int r = 0;

	for (size_t i = 0; r >= 0 && !reader.found && i < ARRAY_SIZE(families); i++) {
		struct rtmsg info = {.rtm_family = families[i]};

		r = -EINTR;
		for (int tries = 0; r == -EINTR && tries < 10; tries++) {
			struct nl_req q;

			nl_req_init(&q, RTM_GETROUTE, NLM_F_DUMP, &info, sizeof(info));
			r = nl_call(nl, &q, read_route, &reader);
		}
		/* A kernel without IPv6 has no IPv6 routes, and answers EOPNOTSUPP. */
		if (r == -EOPNOTSUPP && families[i] == AF_INET6) {
			err_clear();
			r = 0;
		}
	}
	return r < 0 ? r : reader.found;
}
