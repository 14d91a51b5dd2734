/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes and removes those interfaces of containers that are not veth pairs.
 *
 * Theory of operation. No interface on the host shows that such an attachment exists, as the host's
 * end of a veth pair does. So the interface in the container has a mark, a->host, by which caisson
 * finds the interface whatever name the container gives it.
 *
 * A macvlan or ipvlan is made in the container's namespace under the name a->host. One step then
 * gives it its own name, and a->host as its alias. The kernel removes it together with the
 * namespace.
 *
 * An interface that moves gets a->host as an alternative name while it is still on the host, and
 * keeps that name when it moves. The namespace is kept (pin.c) until the interface has moved back.
 * If another program has moved the interface back already, undoing the attachment restores its name
 * and its addresses.
 */
#include <linux/if_link.h>
#include <stdio.h>

#include "netsetup/host/host_internal.h"
#include "netsetup/net.h"

static bool is_moved(const struct attachment *a)
{
	return a->kind == NETWORK_DEVICE;
}

/* --- Choosing the interface of an attachment, before anything is changed --- */

static int add_before(uint8_t family, const uint8_t *raw, uint8_t prefix, void *arg)
{
	struct device_before *b = arg;

	if (b->address_count == DEVICE_ADDRESSES_MAX)
		return err_set(E2BIG, "interface %s has more than %d addresses: remove some",
			b->name, DEVICE_ADDRESSES_MAX);
	b->addresses[b->address_count].family = family;
	memcpy(b->addresses[b->address_count].bytes, raw, ip_len(family));
	b->prefixes[b->address_count++] = prefix;
	return 0;
}

/*
 * Undoes the attachments to the network whose containers have gone. Returns the number of undone
 * attachments.
 */
static int sweep_network(struct host *h, const char *network)
{
	const struct attachment **all;
	int r, swept = 0;
	size_t n;

	r = h->dry_run ? 0 : attachment_list(h, NULL, network, &all, &n);
	for (size_t i = 0; !h->dry_run && r >= 0 && i < n; i++) {
		r = attachment_sweep_one(h, all[i]);
		swept += r > 0;
	}
	return r < 0 ? r : swept;
}

/*
 * Finds the interface that is to move. If an attachment whose container has gone still has the
 * interface, undoes that attachment first.
 */
static int find_moving(
	struct host *h, const struct network *n, char name[IFNAMSIZ], struct device *ret)
{
	for (bool again = false;; again = true) {
		int r = n->functions ? function_pick(n->parent, name) : 0;

		if (!n->functions)
			snprintf(name, IFNAMSIZ, "%s", n->parent);
		if (r >= 0)
			r = device_read(&h->nl, name, 0, ret);
		if (again || (r != -ENODEV && r != -EBUSY))
			return r;
		r = sweep_network(h, n->name);
		if (r < 0)
			return r;
		err_clear();
	}
}

static int choose_device(struct host *h, const struct network *n, struct attachment *a)
{
	struct device_before *b = &a->before;
	struct device d;
	int r = find_moving(h, n, b->name, &d);

	if (r == -ENODEV && !n->functions)
		return err_set(ENODEV,
			"network %s: interface %s does not exist on the host: perhaps another "
			"container has it (`caisson net inspect %s`)",
			n->name, b->name, n->name);
	if (r < 0)
		return err_ctx(r, "network %s", n->name);
	if (d.master || streq(d.kind, "bridge") || streq(d.kind, "bond"))
		return err_set(EINVAL,
			"network %s: interface %s is %s, which cannot move into a container",
			n->name, b->name,
			d.master ? "a port of another interface" : "a bridge or a bond");
	/*
	 * Keeps the interface's own name even if the network's file has an alternative one, because
	 * the interface gets this name when it moves back, and the kernel refuses a name that is
	 * an alternative name already.
	 */
	memcpy(b->name, d.link.name, sizeof(b->name));
	b->mtu = d.mtu;
	b->up = d.link.flags & IFF_UP;
	memcpy(a->mac, d.mac, sizeof(a->mac));
	return device_each_address(&h->nl, d.link.index, false, add_before, b);
}

static int read_parent(struct host *h, const struct network *n, struct device *ret)
{
	int r = device_read(&h->nl, n->parent, 0, ret);

	return r < 0 ? err_ctx(r, "network %s: parent %s", n->name, n->parent) : 0;
}

int child_mtu(struct host *h, const struct network *n, const struct attachment *a)
{
	struct device parent;
	int r;

	if (is_moved(a))
		return (int)a->before.mtu;
	r = read_parent(h, n, &parent);
	if (r >= 0 && n->mtu > parent.mtu)
		return err_set(EINVAL,
			"network %s: mtu: found %u, expected at most %u, the MTU of its parent %s",
			n->name, n->mtu, parent.mtu, n->parent);
	return r < 0 ? r : (int)(n->mtu ? n->mtu : parent.mtu);
}

/*
 * Fails if a container has the passthru macvlan on the network's parent, because there is at most
 * one, and another attachment would take its lease, whose name is the parent's MAC address. Undoes
 * the attachments of containers that have gone first.
 */
static int check_only(struct host *h, const struct network *n)
{
	const struct attachment **all;
	size_t count;
	int r = sweep_network(h, n->name);

	if (r >= 0)
		r = attachment_list(h, NULL, n->name, &all, &count);
	if (r < 0 || count == 0)
		return r;
	return err_set(EBUSY,
		"make the macvlan on %s: container %s has a passthru one already: detach it first",
		n->parent, all[0]->key);
}

int child_choose(struct host *h, const struct network *n, struct attachment *a)
{
	struct device parent;
	int r;

	if (is_moved(a))
		return choose_device(h, n, a);
	/*
	 * Chooses nothing in a dry run, because the interface's parent may belong to another
	 * network, which a dry run does not make.
	 */
	if (h->dry_run)
		return 0;
	r = child_mtu(h, n, a);
	if (r >= 0)
		r = read_parent(h, n, &parent);
	if (r >= 0 && a->kind == NETWORK_MACVLAN && kind_keeps_mac(n))
		r = check_only(h, n);
	/* The kernel gives an ipvlan and a passthru macvlan the MAC address of the parent. */
	if (r >= 0 && kind_keeps_mac(n))
		memcpy(a->mac, parent.mac, sizeof(a->mac));
	return r < 0 ? r : 0;
}

/* --- Making the interface of an attachment, or moving it into the container --- */

static int make_inside(
	struct host *h, const struct network *n, const struct attachment *a, int netns)
{
	const char *kind = network_kind_name(a->kind);
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct device parent, child;
	struct nl_req q;

	int r = read_parent(h, n, &parent);
	if (r < 0)
		return r;
	device_request(&q, a->host, n->mtu, a->kind == NETWORK_IPVLAN ? NULL : a->mac);
	nl_put_u32(&q, IFLA_LINK, (uint32_t)parent.link.index);
	nl_put_u32(&q, IFLA_NET_NS_FD, (uint32_t)netns);
	size_t info = nl_nest(&q, IFLA_LINKINFO);
	nl_put_str(&q, IFLA_INFO_KIND, kind);
	size_t data = nl_nest(&q, IFLA_INFO_DATA);
	if (a->kind == NETWORK_MACVLAN) {
		nl_put_u32(&q, IFLA_MACVLAN_MODE, n->mode);
	} else {
		uint16_t mode = n->mode;

		nl_put(&q, IFLA_IPVLAN_MODE, &mode, sizeof(mode));
	}
	nl_nest_end(&q, data);
	nl_nest_end(&q, info);
	r = nl_call(&h->nl, &q, NULL, NULL);
	if (r == -EOPNOTSUPP)
		return kind_not_supported(a->kind);
	if (r == -EBUSY || (r == -EINVAL && n->mode == MACVLAN_MODE_PASSTHRU))
		return err_set(EBUSY,
			"make the %s on %s: the parent is a port of a bridge or bond, has "
			"interfaces of another kind or mode, or a passthru one already",
			kind, n->parent);
	if (r >= 0)
		r = nl_open(&nl, netns);
	if (r >= 0)
		r = device_read(&nl, a->host, 0, &child);
	if (r >= 0)
		r = device_rename(&nl, child.link.index, a->interface, a->host);
	return r < 0 ? err_ctx(r, "make the %s %s on %s", kind, a->interface, n->parent) : 0;
}

static int move_inside(struct host *h, const struct attachment *a, int netns)
{
	struct device d;
	int r = device_read(&h->nl, a->before.name, 0, &d);

	if (r >= 0)
		r = pin_make(h, a, netns);
	if (r >= 0)
		r = device_alt_name(&h->nl, d.link.index, a->host, true);
	return r < 0 ? err_ctx(r, "mark the interface %s", a->before.name)
		     : net_move_device(a->before.name, a->interface, netns);
}

int child_make(struct host *h, const struct network *n, const struct attachment *a)
{
	_cleanup_fd_ int netns = netns_open(a->netns_now);
	int r;

	if (netns < 0)
		return netns;
	if (is_moved(a) ? host_skips(h, "interface %s: move it into %s as %s", a->before.name,
				  a->netns, a->interface)
			: host_skips(h, "%s on %s: make it in %s as %s", network_kind_name(a->kind),
				  n->parent, a->netns, a->interface))
		return 0;
	r = is_moved(a) ? move_inside(h, a, netns) : make_inside(h, n, a, netns);
	return r < 0 ? r : inside_set_up(h, a, netns);
}

/* --- Undoing: removes the interface, or moves it back to the host --- */

/*
 * Opens the namespace of the attachment. Returns -ENODEV without a message if the namespace has
 * ended. Another namespace may have the same path by then, but none of its interfaces has the name
 * or alias a->host.
 */
static int open_namespace(const struct attachment *a)
{
	int fd = netns_open(a->netns_now ? a->netns_now : a->netns);

	if (fd >= 0)
		return fd;
	err_clear();
	return -ENODEV;
}

static int find_mark(const struct attachment *a, struct nl *nl, struct device *ret)
{
	int r;

	if (!is_moved(a))
		return device_find_mark(nl, a->host, ret);
	struct link link;
	r = link_get(nl, a->host, 0, &link);
	if (r >= 0)
		r = device_read(nl, NULL, link.index, ret);
	if (r == -ENODEV)
		err_clear();
	return r;
}

static int find_inside(const struct attachment *a, int netns, struct nl *nl, struct device *ret)
{
	int r = netns < 0 ? netns : nl_open(nl, netns);

	return r < 0 ? r : find_mark(a, nl, ret);
}

int child_lives(struct host *h, const struct attachment *a)
{
	_cleanup_fd_ int netns = open_namespace(a);
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct device d;
	int r = find_inside(a, netns, &nl, &d);

	return r == -ENODEV ? 0 : r < 0 ? r : 1;
}

/*
 * Moves the interface back to the host, without the addresses and the MTU that the attachment gave
 * it.
 */
static int move_back(
	const struct attachment *a, int netns, struct nl *inside, const struct device *d)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < a->address_count; i++)
		r = device_remove_address(inside, d->link.index, a->addresses[i].family,
			a->addresses[i].bytes, a->prefixes[i]);
	if (r >= 0 && d->mtu != a->before.mtu)
		r = device_set_mtu(inside, d->link.index, a->before.mtu);
	return r < 0 ? r : net_return_device(d->link.name, a->before.name, netns);
}

/*
 * Gives an interface that is on the host again its former name, MTU, addresses and flags, and
 * removes the alternative name a->host.
 */
static int restore(struct host *h, const struct attachment *a, const struct device *d)
{
	const struct device_before *b = &a->before;
	int index = d->link.index, r = 0;

	if (!streq(d->link.name, b->name)) {
		r = link_set_flags(&h->nl, index, 0, IFF_UP);
		if (r >= 0)
			r = device_rename(&h->nl, index, b->name, d->alias);
	}
	if (r >= 0 && d->mtu != b->mtu)
		r = device_set_mtu(&h->nl, index, b->mtu);
	for (size_t i = 0; r >= 0 && i < b->address_count; i++)
		r = device_add_address(&h->nl, index, b->addresses[i].family, b->addresses[i].bytes,
			b->prefixes[i]);
	if (r >= 0)
		r = link_set_flags(&h->nl, index, b->up ? IFF_UP : 0, b->up ? 0 : IFF_UP);
	return r < 0 ? r : device_alt_name(&h->nl, index, a->host, false);
}

static int remove_moved(struct host *h, const struct attachment *a)
{
	_cleanup_fd_ int netns = pin_open(h, a);
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct device d;
	int r;

	if (host_skips(h, "interface %s: move it back", a->before.name))
		return 0;
	r = find_inside(a, netns, &nl, &d);
	if (r >= 0)
		r = move_back(a, netns, &nl, &d);
	if (r >= 0 || r == -ENODEV)
		r = find_mark(a, &h->nl, &d);
	if (r >= 0)
		r = restore(h, a, &d);
	/*
	 * If another program has removed the interface, nothing can be brought back, and this is no
	 * error.
	 */
	if (r == -ENODEV)
		r = 0;
	return r < 0 ? err_ctx(r, "bring the interface %s back", a->before.name) : pin_remove(h, a);
}

int child_remove(struct host *h, const struct attachment *a)
{
	_cleanup_fd_ int netns = is_moved(a) ? -ENODEV : open_namespace(a);
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct device d;
	int r;

	if (is_moved(a))
		return remove_moved(h, a);
	r = find_inside(a, netns, &nl, &d);
	if (r == -ENODEV)
		return 0;
	if (r < 0 || host_skips(h, "%s %s: remove it", network_kind_name(a->kind), a->interface))
		return r;
	r = device_remove(&nl, d.link.index);
	return r < 0 ? err_ctx(r, "remove the interface %s", a->interface) : 0;
}
