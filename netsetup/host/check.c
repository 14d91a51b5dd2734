/* SPDX-License-Identifier: Apache-2.0 */
/* Compares the record of an attachment with the interfaces, addresses and routes that exist. */
#include "netsetup/host/host_internal.h"

static int check_addresses(struct nl *nl, const struct device *d, const struct ip *addresses,
	const uint8_t *prefixes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char text[IP_TEXT];
		int r = device_has_address(
			nl, d->link.index, addresses[i].family, addresses[i].bytes, prefixes[i]);

		if (r < 0)
			return r;
		if (r == 0)
			return err_set(ENOENT, "interface %s has lost its address %s", d->link.name,
				ip_subnet_text(&addresses[i], prefixes[i], text));
	}
	return 0;
}

static int check_device(const struct device *d, uint32_t mtu)
{
	if (d->mtu != mtu)
		return err_set(
			EINVAL, "interface %s has MTU %u, expected %u", d->link.name, d->mtu, mtu);
	if (!(d->link.flags & IFF_UP))
		return err_set(ENETDOWN, "interface %s is down", d->link.name);
	return 0;
}

static int check_inside(const struct attachment *a, uint32_t mtu)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	_cleanup_fd_ int netns = netns_open(a->netns);
	struct device inside;

	int r = netns < 0 ? netns : nl_open(&nl, netns);
	if (r >= 0)
		r = device_read(&nl, a->interface, 0, &inside);
	if (r < 0)
		return err_ctx(r, "interface %s in %s", a->interface, a->netns);
	if (memcmp(inside.mac, a->mac, sizeof(a->mac)) != 0)
		return err_set(EINVAL, "interface %s has another MAC address than it was given",
			a->interface);
	r = check_device(&inside, mtu);
	return r < 0 ? r
		     : check_addresses(&nl, &inside, a->addresses, a->prefixes, a->address_count);
}

static int check_bridge(struct host *h, const struct network *n, const struct attachment *a)
{
	struct device bridge, host;
	int mtu = bridge_mtu(h, n), r = mtu;

	if (r < 0)
		return r;
	r = bridge_find(h, n, &bridge);
	if (r < 0)
		return err_ctx(r, "bridge %s", n->interface);
	r = device_read(&h->nl, a->host, 0, &host);
	if (r < 0)
		return err_ctx(r, "%s: interface %s of the host", a->key, a->host);
	/*
	 * Checks the port before the bridge, because a bridge takes over the smallest MTU of its
	 * ports, so a wrong MTU of the port would be reported as the bridge's.
	 */
	r = check_device(&host, (uint32_t)mtu);
	if (r >= 0 && host.master != bridge.link.index)
		r = err_set(EINVAL, "interface %s is not a port of the bridge %s", a->host,
			n->interface);
	if (r >= 0)
		r = check_inside(a, (uint32_t)mtu);
	if (r >= 0)
		r = check_device(&bridge, (uint32_t)mtu);
	return r < 0 ? r
		     : check_addresses(&h->nl, &bridge, a->gateways, a->prefixes, a->address_count);
}

int attachment_check(struct host *h, const struct attachment *a)
{
	struct network n;
	int r = network_read(h, a->network, &n);

	if (r >= 0 && a->kind == NETWORK_BRIDGE) {
		r = check_bridge(h, &n, a);
	} else if (r >= 0) {
		r = child_mtu(h, &n, a);
		if (r >= 0)
			r = check_inside(a, (uint32_t)r);
	}
	return r < 0 ? err_ctx(r, "%s", a->key) : 0;
}
