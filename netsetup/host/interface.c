/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes and removes the interfaces of VLANs and bonds.
 *
 * Theory of operation. The alias "caisson:NETWORK" tells that caisson has made the interface. The
 * kernel takes no alias when it makes an interface. So caisson makes the interface under a
 * temporary name that follows from the network's name, and then sets the final name and the alias
 * in one step. A process that is killed in between leaves an interface with the temporary name,
 * which the next command that applies or removes the network finds.
 */
#include <linux/if_link.h>
#include <stdio.h>

#include "netsetup/host/host_internal.h"

#define ALIAS_MAX (NETWORK_NAME_MAX + 9)
#define BOND_CHECK_MS 100 /* how often, in ms, a bond looks whether a member has lost its link */

void interface_temporary_name(const char *network, char ret[IFNAMSIZ])
{
	uint64_t hash = 0xcbf29ce484222325u; /* initial value of the hash FNV-1a */

	for (const char *p = network; *p; p++)
		hash = (hash ^ (uint8_t)*p) * 0x100000001b3u;
	snprintf(ret, IFNAMSIZ, "cm%012llx", (unsigned long long)hash & 0xffffffffffff);
}

static void alias_of(const struct network *n, char ret[ALIAS_MAX])
{
	snprintf(ret, ALIAS_MAX, "caisson:%s", n->name);
}

/*
 * Finds the network's interface. Returns -ENODEV if no interface has its name, and -EEXIST if the
 * interface with its name is not this network's.
 */
static int find(struct host *h, const struct network *n, struct device *ret)
{
	char alias[ALIAS_MAX];
	int r = device_read(&h->nl, n->interface, 0, ret);

	if (r < 0)
		return r;
	alias_of(n, alias);
	if (!streq(ret->kind, network_kind_name(n->kind)) || !streq(ret->alias, alias))
		return err_set(EEXIST,
			"interface %s is not the %s that caisson made for network %s: caisson "
			"leaves it alone; rename it, or make the network with another --interface",
			n->interface, network_kind_name(n->kind), n->name);
	return 0;
}

/*
 * Fails if the network's file now names another VLAN ID, parent or mode than the existing interface
 * has, because these cannot be changed at an existing interface.
 */
static int check_same(const struct network *n, const struct device *d, int parent)
{
	if (n->kind == NETWORK_VLAN ? d->vlan == n->vlan && d->peer == parent : d->mode == n->mode)
		return 0;
	return err_set(EEXIST,
		"interface %s: the %s of network %s was changed, which an existing interface does "
		"not allow: `ip link del %s`, and then again",
		n->interface, n->kind == NETWORK_VLAN ? "vlan or parent" : "mode", n->name,
		n->interface);
}

static int make(struct host *h, const struct network *n, int parent)
{
	char temporary[IFNAMSIZ], alias[ALIAS_MAX];
	struct device device;
	struct nl_req q;

	interface_temporary_name(n->name, temporary);
	device_request(&q, temporary, n->mtu, NULL);
	if (parent)
		nl_put_u32(&q, IFLA_LINK, (uint32_t)parent);
	size_t info = nl_nest(&q, IFLA_LINKINFO);
	nl_put_str(&q, IFLA_INFO_KIND, network_kind_name(n->kind));
	size_t data = nl_nest(&q, IFLA_INFO_DATA);
	if (n->kind == NETWORK_VLAN) {
		nl_put(&q, IFLA_VLAN_ID, &n->vlan, sizeof(n->vlan));
	} else {
		nl_put(&q, IFLA_BOND_MODE, &n->mode, sizeof(n->mode));
		nl_put_u32(&q, IFLA_BOND_MIIMON, BOND_CHECK_MS);
	}
	nl_nest_end(&q, data);
	nl_nest_end(&q, info);
	int r = nl_call(&h->nl, &q, NULL, NULL);
	if (r == -EOPNOTSUPP)
		return kind_not_supported(n->kind);
	if (r == -EEXIST && n->kind == NETWORK_VLAN)
		return err_set(EEXIST, "vlan: %u is taken on %s already, expected another number",
			n->vlan, n->parent);
	if (r >= 0)
		r = device_read(&h->nl, temporary, 0, &device);
	alias_of(n, alias);
	if (r >= 0)
		r = device_rename(&h->nl, device.link.index, n->interface, alias);
	return r < 0 ? err_ctx(r, "make the %s %s", network_kind_name(n->kind), n->interface) : 0;
}

static int remove_named(struct host *h, const char *name)
{
	struct device device;
	int r = device_read(&h->nl, name, 0, &device);

	if (r == -ENODEV) {
		err_clear();
		return 0;
	}
	if (r < 0 || host_skips(h, "interface %s: remove it", name))
		return r;
	r = device_remove(&h->nl, device.link.index);
	return r < 0 ? err_ctx(r, "remove the interface %s", name) : 0;
}

/* Removes the interface with the network's temporary name, which a killed process has left. */
static int remove_temporary(struct host *h, const struct network *n)
{
	char temporary[IFNAMSIZ];

	interface_temporary_name(n->name, temporary);
	return remove_named(h, temporary);
}

/*
 * Makes the network's interface if it does not exist. In a dry run the interface is not made, so
 * *ret has no index.
 */
static int have(
	struct host *h, const struct network *n, const struct device *parent, struct device *ret)
{
	int r = find(h, n, ret);

	if (r >= 0)
		return check_same(n, ret, parent->link.index);
	if (r != -ENODEV)
		return r;
	err_clear();
	*ret = (struct device){.mtu = n->mtu};
	r = remove_temporary(h, n);
	if (r < 0 || host_skips(h, "%s %s: make it", network_kind_name(n->kind), n->interface))
		return r;
	r = make(h, n, parent->link.index);
	return r < 0 ? r : find(h, n, ret);
}

int interface_apply(struct host *h, const struct network *n)
{
	struct device device, parent = {0};
	int r = n->parent[0] ? member_use(h, n, n->parent, &parent) : 0;

	if (r >= 0 && parent.link.index && n->mtu > parent.mtu)
		return err_set(EINVAL,
			"network %s: mtu: found %u, expected at most %u, the MTU of its parent %s",
			n->name, n->mtu, parent.mtu, n->parent);
	if (r >= 0)
		r = have(h, n, &parent, &device);
	if (r >= 0 && n->mtu && device.mtu != n->mtu &&
		!host_skips(
			h, "interface %s: set MTU %u, was %u", n->interface, n->mtu, device.mtu))
		r = device_set_mtu(&h->nl, device.link.index, n->mtu);
	if (r >= 0)
		r = members_apply(h, n, device.link.index);
	if (r >= 0 && !(device.link.flags & IFF_UP) &&
		!host_skips(h, "interface %s: set it up", n->interface))
		r = link_set_flags(&h->nl, device.link.index, IFF_UP, 0);
	return r < 0 ? err_ctx(r, "network %s", n->name) : 0;
}

int interface_remove(struct host *h, const struct network *n)
{
	struct device device;
	int r = find(h, n, &device);

	/*
	 * Removes nothing if no interface has the name, or if another program's interface has it.
	 */
	if (r == -ENODEV || r == -EEXIST) {
		err_clear();
		r = 0;
	} else if (r >= 0) {
		r = remove_named(h, n->interface);
	}
	if (r >= 0)
		r = remove_temporary(h, n);
	return r < 0 ? r : members_release(h, n);
}
