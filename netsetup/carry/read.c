/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/if_link.h>
#include <linux/ipv6.h>
#include <net/if_arp.h>
#include <stdio.h>

#include "base/log.h"
#include "netsetup/carry/carry_internal.h"

/* The addresses that lo has by itself: all of 127.0.0.0/8, here by the first byte, and ::1. */
static const uint8_t loopback4 = 127;
static const uint8_t loopback6[16] = {[15] = 1};

/* --- Interfaces: reads all of the namespace, and chooses those that the guest gets --- */

/* An interface as the kernel lists it. */
struct seen {
	struct net_interface i;
	int index;
	bool is_lo;
	char cannot[96]; /* why the guest cannot get this interface; "" if it can */
};

static void read_ipv6(const struct nlattr *spec, struct net_ipv6 *ret)
{
	const struct nlattr *six = nl_attr_in(spec, AF_INET6);
	const struct nlattr *conf = nl_attr_in(six, IFLA_INET6_CONF);
	const struct nlattr *mode = nl_attr_in(six, IFLA_INET6_ADDR_GEN_MODE);
	int32_t values[DEVCONF_DISABLE_IPV6 + 1];

	/*
	 * IPv6 counts as disabled until its attributes are found, because the kernel sends none if
	 * it has no IPv6 at all, or no IPv6 on this interface (an MTU below 1280).
	 */
	*ret = (struct net_ipv6){.disabled = true};
	if (!conf || nl_attr_len(conf) < sizeof(values))
		return;
	memcpy(values, nl_attr_data(conf), sizeof(values));
	ret->disabled = values[DEVCONF_DISABLE_IPV6] != 0;
	/*
	 * accept_ra can be any int that was written to the sysctl; the kernel takes all values
	 * except 0 and 2 as "on".
	 */
	ret->accept_ra = values[DEVCONF_ACCEPT_RA] == 2 ? 2 : values[DEVCONF_ACCEPT_RA] != 0;
	ret->autoconf = values[DEVCONF_AUTOCONF] != 0;
	if (mode && nl_attr_len(mode) == 1)
		ret->addr_gen_mode = *(const uint8_t *)nl_attr_data(mode);
}

static int read_link(const struct nlmsghdr *h, void *arg)
{
	static const uint8_t no_mac[6];
	const struct nlattr *attrs[IFLA_AF_SPEC + 1];
	const struct ifinfomsg *info = nl_payload(h);
	struct seen s = {0};
	const char *name;

	int r = nl_attrs(h, sizeof(*info), attrs, IFLA_AF_SPEC);
	if (r < 0)
		return r;
	name = nl_attr_str(attrs[IFLA_IFNAME], "");
	if (!name[0] || strlen(name) >= sizeof(s.i.name) || info->ifi_index <= 0)
		return err_set(EBADMSG, "rtnetlink: a reply has a link without a name or an index");
	memcpy(s.i.name, name, strlen(name) + 1);
	s.index = info->ifi_index;
	s.is_lo = info->ifi_flags & IFF_LOOPBACK;
	s.i.up = info->ifi_flags & IFF_UP;
	s.i.mtu = nl_attr_u32(attrs[IFLA_MTU], 0);
	s.i.tx_queue = nl_attr_u32(attrs[IFLA_TXQLEN], NET_TX_QUEUE_DEFAULT);
	s.i.has_tx_queue = s.i.tx_queue != NET_TX_QUEUE_DEFAULT;
	read_ipv6(attrs[IFLA_AF_SPEC], &s.i.ipv6);
	net_sysctls_read(attrs[IFLA_AF_SPEC], &s.i.sysctls);
	if (info->ifi_type != ARPHRD_ETHER)
		snprintf(s.cannot, sizeof(s.cannot), "its type is %u (ARPHRD_*), expected Ethernet",
			info->ifi_type);
	else if (!nl_attr_copy(attrs[IFLA_ADDRESS], s.i.mac, sizeof(s.i.mac)) ||
		 memcmp(s.i.mac, no_mac, sizeof(no_mac)) == 0)
		snprintf(s.cannot, sizeof(s.cannot), "it has no MAC address");
	else if (s.i.mtu < 68 || s.i.mtu > 65535)
		snprintf(
			s.cannot, sizeof(s.cannot), "its MTU is %u, expected 68 to 65535", s.i.mtu);
	return strbuf_add(arg, &s, sizeof(s));
}

/*
 * Finds another interface with the same MAC address, for example the interface that a VLAN is on.
 * No two interfaces that the guest gets may have one MAC address, because the guest finds its
 * devices by their MAC addresses.
 */
static const struct seen *same_mac(const struct seen *all, size_t count, size_t of)
{
	for (size_t i = 0; i < count; i++)
		if (i != of && !all[i].is_lo && all[i].i.up && !all[i].cannot[0] &&
			memcmp(all[i].i.mac, all[of].i.mac, 6) == 0)
			return &all[i];
	return NULL;
}

/*
 * Chooses the interfaces of the namespace that the guest gets. *ret has room for NET_INTERFACES_MAX
 * interfaces.
 */
static int choose_interfaces(const struct seen *all, size_t count, struct net_interface *ret,
	size_t *ret_count, struct net_indexes *at)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		const struct seen *s = &all[i], *twin = same_mac(all, count, i);

		if (s->is_lo) {
			at->lo = s->index;
			continue;
		}
		if ((s->cannot[0] || twin) && !s->i.up)
			continue;
		if (s->cannot[0])
			return err_set(EOPNOTSUPP,
				"network interface %s can't be given to a virtual machine: %s",
				s->i.name, s->cannot);
		if (twin)
			return err_set(EOPNOTSUPP,
				"network interfaces %s and %s can't be given to a virtual machine: "
				"both have the MAC address " STR_MAC_FORMAT,
				s->i.name, twin->i.name, STR_MAC_ARGS(s->i.mac));
		if (n == NET_INTERFACES_MAX)
			return err_set(EOPNOTSUPP,
				"network interface %s is one too many: a virtual machine gets %d "
				"at most",
				s->i.name, NET_INTERFACES_MAX);
		at->of[n] = s->index;
		ret[n++] = s->i;
	}
	*ret_count = n;
	return 0;
}

/* --- Addresses: reads those of the chosen interfaces --- */

struct address_reader {
	int index;
	bool is_lo;
	struct strbuf found;
	const char *name;
};

static bool parse_address(
	const struct nlmsghdr *h, const struct nlattr *const *attrs, struct net_address *ret)
{
	const struct ifaddrmsg *info = nl_payload(h);
	size_t len = net_family_len(info->ifa_family);
	uint8_t far[16] = {0};

	memset(ret, 0, sizeof(*ret));
	ret->family = info->ifa_family;
	ret->prefix = info->ifa_prefixlen;
	ret->scope = info->ifa_scope;
	ret->flags = nl_attr_u32(attrs[IFA_FLAGS], info->ifa_flags) & NET_ADDRESS_FLAGS;
	ret->metric = nl_attr_u32(attrs[IFA_RT_PRIORITY], 0);
	nl_attr_copy(attrs[IFA_PROTO], &ret->protocol, sizeof(ret->protocol));
	/*
	 * IFA_ADDRESS is the peer's address if the address is point-to-point, else the address
	 * itself. For IPv6 the kernel sends IFA_LOCAL only if the address is point-to-point.
	 */
	if (!len || info->ifa_prefixlen > 8 * len || !nl_attr_copy(attrs[IFA_ADDRESS], far, len))
		return false;
	if (!nl_attr_copy(attrs[IFA_LOCAL], ret->local, len))
		memcpy(ret->local, far, len);
	ret->has_peer = memcmp(ret->local, far, len) != 0;
	if (ret->has_peer)
		memcpy(ret->peer, far, len);
	ret->has_broadcast = nl_attr_copy(attrs[IFA_BROADCAST], ret->broadcast, len);
	return true;
}

static int read_address(const struct nlmsghdr *h, void *arg)
{
	const struct nlattr *attrs[IFA_PROTO + 1];
	const struct ifaddrmsg *info = nl_payload(h);
	struct address_reader *reader = arg;
	struct net_address address;
	uint32_t flags;

	int r = nl_attrs(h, sizeof(*info), attrs, IFA_PROTO);
	if (r < 0)
		return r;
	flags = nl_attr_u32(attrs[IFA_FLAGS], info->ifa_flags);
	if ((int)info->ifa_index != reader->index || (flags & IFA_F_DADFAILED) ||
		(info->ifa_family == AF_INET6 && !(flags & IFA_F_PERMANENT)))
		return 0;
	if (!parse_address(h, attrs, &address))
		return net_family_len(info->ifa_family)
			       ? err_set(EBADMSG,
					 "rtnetlink: a reply has an address of a wrong length")
			       : 0;
	const char *label = nl_attr_str(attrs[IFA_LABEL], "");
	if (reader->name && !streq(label, reader->name) && strlen(label) < sizeof(address.label))
		memcpy(address.label, label, strlen(label) + 1);
	if (reader->is_lo) {
		if (address.family == AF_INET ? address.local[0] != loopback4
					      : memcmp(address.local, loopback6, 16) != 0)
			log_warn("network: the addresses that lo has besides its own are not "
				 "carried into the virtual machine");
		return 0;
	}
	if (reader->found.len / sizeof(address) == NET_ADDRESSES_MAX)
		return err_set(E2BIG, "it has more than %d addresses", NET_ADDRESSES_MAX);
	return strbuf_add(&reader->found, &address, sizeof(address));
}

static int read_addresses(struct nl *nl, struct arena *a, int index, struct net_interface *to)
{
	struct ifaddrmsg info = {.ifa_index = (unsigned)index};
	struct address_reader reader = {.index = index, .name = to ? to->name : NULL, .is_lo = !to};
	const void *kept;
	struct nl_req q;

	nl_req_init(&q, RTM_GETADDR, NLM_F_DUMP, &info, sizeof(info));
	int r = net_dump(nl, &q, read_address, &reader, &reader.found);
	if (r >= 0 && to) {
		r = net_keep(
			a, &reader.found, sizeof(struct net_address), &kept, &to->address_count);
		to->addresses = r < 0 ? NULL : kept;
	}
	strbuf_release(&reader.found);
	return r < 0 ? err_ctx(r, "read the addresses of %s", to ? to->name : "lo") : 0;
}

/* --- The whole configuration: interfaces, addresses, routes and neighbours --- */

static int read_interfaces(
	struct nl *nl, struct arena *a, struct net_config *ret, struct net_indexes *at)
{
	struct net_interface *list = arena_array(a, NET_INTERFACES_MAX, sizeof(*list));
	_cleanup_strbuf_ struct strbuf found = {0};
	struct nl_req q;

	if (!list)
		return -ENOMEM;
	nl_req_link(&q, RTM_GETLINK, NLM_F_DUMP, 0);
	int r = net_dump(nl, &q, read_link, &found, &found);
	if (r < 0)
		return err_ctx(r, "list the network interfaces");
	if (found.len > 0)
		r = choose_interfaces((const void *)found.s, found.len / sizeof(struct seen), list,
			&ret->interface_count, at);
	if (r >= 0 && at->lo)
		r = read_addresses(nl, a, at->lo, NULL);
	for (size_t i = 0; r >= 0 && i < ret->interface_count; i++)
		r = read_addresses(nl, a, at->of[i], &list[i]);
	ret->interfaces = list;
	return r;
}

int net_config_read(struct arena *a, int netns_fd, struct net_config *ret)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct net_config c = {0};
	struct net_indexes at = {0};

	int r = nl_open(&nl, netns_fd);
	if (r >= 0)
		r = read_interfaces(&nl, a, &c, &at);
	if (r >= 0)
		r = net_read_routes(&nl, a, &at, &c);
	if (r < 0)
		return r;
	*ret = c;
	return 0;
}
