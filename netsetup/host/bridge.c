/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/if_bridge.h>
#include <linux/if_link.h>

#include "netsetup/host/host_internal.h"

int bridge_mtu(struct host *h, const struct network *n)
{
	int r = n->mtu ? (int)n->mtu : device_default_mtu(&h->nl);

	return r != 0 ? r : 1500;
}

/*
 * Makes the MAC address of the bridge, a FNV-1a hash of the network's name and of the interface's
 * name. A bridge without a MAC address of its own takes that of one of its ports, so its address
 * would change when containers start and end, and be all zeros without any container.
 */
static void bridge_mac(const struct network *n, uint8_t ret[6])
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (int k = 0; k < 2; k++)
		for (const char *p = k ? n->interface : n->name;; p++) {
			hash = (hash ^ (uint8_t)*p) * 0x100000001b3u;
			if (!*p)
				break;
		}
	/* 0x0a is the first byte of a MAC address that is locally administered and not a group */
	ret[0] = 0x0a;
	for (int i = 1; i < 6; i++)
		ret[i] = (uint8_t)(hash >> (8 * i));
}

int bridge_find(struct host *h, const struct network *n, struct device *ret)
{
	uint8_t mac[6];
	int r = device_read(&h->nl, n->interface, 0, ret);

	if (r < 0)
		return r;
	bridge_mac(n, mac);
	if (!streq(ret->kind, "bridge") || memcmp(mac, ret->mac, 6) != 0)
		return err_set(EEXIST,
			"interface %s is not the bridge that caisson made for network %s: caisson "
			"leaves it alone; rename it, or make the network with another --interface",
			n->interface, n->name);
	return 0;
}

static int make_bridge(struct host *h, const struct network *n, uint32_t mtu)
{
	struct nl_req q;
	uint8_t mac[6];

	bridge_mac(n, mac);
	device_request(&q, n->interface, mtu, mac);
	size_t info = nl_nest(&q, IFLA_LINKINFO);
	nl_put_str(&q, IFLA_INFO_KIND, "bridge");
	nl_nest_end(&q, info);
	int r = nl_call(&h->nl, &q, NULL, NULL);
	if (r == -EOPNOTSUPP)
		return kind_not_supported(NETWORK_BRIDGE);
	return r < 0 ? err_ctx(r, "make the bridge %s", n->interface) : 0;
}

static int set_sysctls(struct host *h, const struct network *n)
{
	/*
	 * route_localnet allows a packet from 127.0.0.1 to a published port to leave through the
	 * bridge.
	 */
	int r = sysctl_set(h, "1", "net/ipv4/conf/%s/route_localnet", n->interface);

	/*
	 * accept_ra is 0, so that router advertisements of containers do not make one of them the
	 * host's router.
	 */
	if (r >= 0)
		r = sysctl_set(h, "0", "net/ipv6/conf/%s/accept_ra", n->interface);
	return r;
}

static int add_addresses(struct host *h, const struct network *n, const struct device *bridge)
{
	for (size_t i = 0; i < n->pool_count; i++) {
		const struct pool *p = &n->pools[i];
		char text[IP_TEXT];
		int r = 0;

		if (bridge->link.index)
			r = device_has_address(&h->nl, bridge->link.index, p->gateway.family,
				p->gateway.bytes, (uint8_t)p->prefix);
		if (r < 0)
			return r;
		if (r > 0 || host_skips(h, "bridge %s: add address %s", n->interface,
				     ip_subnet_text(&p->gateway, p->prefix, text)))
			continue;
		r = device_add_address(&h->nl, bridge->link.index, p->gateway.family,
			p->gateway.bytes, (uint8_t)p->prefix);
		if (r < 0)
			return err_ctx(r, "bridge %s: add address %s", n->interface,
				ip_text(&p->gateway, text));
	}
	return 0;
}

/*
 * Makes the bridge if it does not exist. In a dry run the bridge is not made, so *ret has no index.
 */
static int have_bridge(struct host *h, const struct network *n, uint32_t mtu, struct device *ret)
{
	int r = bridge_find(h, n, ret);

	if (r != -ENODEV)
		return r;
	err_clear();
	*ret = (struct device){.mtu = mtu};
	if (host_skips(h, "bridge %s: make it, MTU %u", n->interface, mtu))
		return 0;
	r = make_bridge(h, n, mtu);
	if (r >= 0)
		r = firewalld_add(h, n);
	if (r >= 0)
		r = docker_add(h, n);
	return r < 0 ? r : bridge_find(h, n, ret);
}

int bridge_apply(struct host *h, const struct network *n)
{
	int mtu = bridge_mtu(h, n), r = mtu;
	struct device bridge;

	if (r >= 0)
		r = have_bridge(h, n, (uint32_t)mtu, &bridge);
	if (r >= 0)
		r = members_apply(h, n, bridge.link.index);
	if (r >= 0 && bridge.mtu != (uint32_t)mtu &&
		!host_skips(h, "bridge %s: set MTU %d, was %u", n->interface, mtu, bridge.mtu))
		r = device_set_mtu(&h->nl, bridge.link.index, (uint32_t)mtu);
	if (r >= 0 && (bridge.link.index || !h->dry_run))
		r = set_sysctls(h, n);
	if (r >= 0)
		r = add_addresses(h, n, &bridge);
	if (r >= 0 && !(bridge.link.flags & IFF_UP) &&
		!host_skips(h, "bridge %s: set it up", n->interface))
		r = link_set_flags(&h->nl, bridge.link.index, IFF_UP, 0);
	if (r < 0)
		return err_ctx(r, "network %s", n->name);
	return n->internal ? 0 : sysctl_forwarding(h);
}

int bridge_remove(struct host *h, const struct network *n)
{
	struct device bridge;
	int r = bridge_find(h, n, &bridge);

	/* If another program's interface has the bridge's name, rules for it are that program's. */
	if (r == -EEXIST) {
		err_clear();
		return members_release(h, n);
	}
	/*
	 * The rules of firewalld and docker stay when a bridge ends, so they are removed even if
	 * the bridge no longer exists, for example after a reboot.
	 */
	const bool exists = r != -ENODEV;
	if (!exists) {
		err_clear();
		r = 0;
	}
	if (r < 0 || (exists && host_skips(h, "bridge %s: remove it", n->interface)))
		return r;
	if (exists)
		r = device_remove(&h->nl, bridge.link.index);
	if (r >= 0)
		r = firewalld_remove(h, n);
	if (r >= 0)
		r = docker_remove(h, n);
	return r < 0 ? err_ctx(r, "remove the bridge %s", n->interface) : members_release(h, n);
}
