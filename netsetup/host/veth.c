/* SPDX-License-Identifier: Apache-2.0 */
/* Makes and removes the veth pair between a bridge and a container's network namespace. */
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/nsfs.h>
#include <linux/veth.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>

#include "netsetup/host/host_internal.h"
#include "netsetup/net.h"

int netns_open(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_sys("open the network namespace %s", path);
	int type = ioctl(fd, NS_GET_NSTYPE);
	if (type != CLONE_NEWNET)
		return err_set(EINVAL,
			"%s is not a network namespace: expected a path such as /run/netns/NAME or "
			"/proc/PID/ns/net",
			path);
	return take_fd(&fd);
}

int netns_pick_name(const char *netns, const char *template, char ret[IFNAMSIZ])
{
	_cleanup_fd_ int fd = netns_open(netns);

	return fd < 0 ? fd : net_pick_name(template, fd, ret);
}

int netns_open_cookie(const char *netns, uint64_t *ret)
{
	_cleanup_fd_ int fd = netns_open(netns);
	_cleanup_nl_ struct nl nl = NL_INIT;
	socklen_t len = sizeof(*ret);
	int r = fd < 0 ? fd : nl_open(&nl, fd);

	if (r < 0)
		return r;
	if (getsockopt(nl.fd, SOL_SOCKET, SO_NETNS_COOKIE, ret, &len) < 0)
		*ret = 0;
	return take_fd(&fd);
}

int netns_cookie(const char *netns, uint64_t *ret)
{
	_cleanup_fd_ int fd = netns_open_cookie(netns, ret);

	return fd < 0 ? fd : 0;
}

bool netns_same(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* --- Setting up the interface inside the container's namespace --- */

static int add_routes(struct host *h, const struct attachment *a, struct nl *nl, int index)
{
	char text[IP_TEXT];

	for (size_t i = 0; a->default_route && i < a->address_count; i++) {
		/*
		 * If the namespace is in several networks, it keeps the default route of the first
		 * one.
		 */
		int r = device_add_default_route(
			nl, index, a->gateways[i].family, a->gateways[i].bytes);
		if (r < 0)
			return err_ctx(r, "%s: add the default route through %s", a->interface,
				ip_text(&a->gateways[i], text));
	}
	return 0;
}

/*
 * Sets the interface up. The kernel refuses a macvlan with the MAC address of another macvlan that
 * is up. In that case the function repeats the request, because the kernel removes namespaces late,
 * so an ended container's macvlan may still exist for some time.
 */
static int set_up(struct nl *nl, int index)
{
	const struct timespec pause = {.tv_nsec = 20000000};
	int r = link_set_flags(nl, index, IFF_UP, 0);

	for (int i = 0; r == -EADDRINUSE && i < 250; i++) {
		nanosleep(&pause, NULL);
		r = link_set_flags(nl, index, IFF_UP, 0);
	}
	if (r >= 0)
		err_clear();
	return r;
}

static int set_up_inside(struct host *h, const struct attachment *a)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct device device;
	char text[IP_TEXT];

	int r = nl_open(&nl, -EBADF);
	if (r >= 0)
		r = device_read(&nl, a->interface, 0, &device);
	/*
	 * accept_ra is 0, so that router advertisements of other containers do not make one of them
	 * this container's router.
	 */
	if (r >= 0)
		r = sysctl_set(h, "0", "net/ipv6/conf/%s/accept_ra", a->interface);
	for (size_t i = 0; r >= 0 && i < a->address_count; i++) {
		r = device_add_address(&nl, device.link.index, a->addresses[i].family,
			a->addresses[i].bytes, a->prefixes[i]);
		if (r == -EACCES || r == -EPERM)
			return err_ctx(r, "%s: address %s (is net.ipv6.conf.all.disable_ipv6 set?)",
				a->interface, ip_text(&a->addresses[i], text));
		if (r < 0)
			return err_ctx(
				r, "%s: address %s", a->interface, ip_text(&a->addresses[i], text));
	}
	if (r >= 0)
		r = set_up(&nl, device.link.index);
	return r < 0 ? err_ctx(r, "set up %s in the container", a->interface)
		     : add_routes(h, a, &nl, device.link.index);
}

/*
 * Enters the container's namespace, sets the interface up, and comes back. The program exits if it
 * cannot come back, because its further steps would change the wrong namespace. No other thread is
 * affected, because the program has only one thread.
 */
int inside_set_up(struct host *h, const struct attachment *a, int netns)
{
	_cleanup_fd_ int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	int r;

	if (here < 0)
		return err_sys("open /proc/thread-self/ns/net");
	if (setns(netns, CLONE_NEWNET) < 0)
		return err_sys("enter the network namespace %s", a->netns);
	r = set_up_inside(h, a);
	if (setns(here, CLONE_NEWNET) < 0)
		_exit(1);
	return r;
}

/* --- Making and removing the pair of interfaces on the host --- */

static int make_pair(
	struct host *h, const struct attachment *a, int netns, int bridge, uint32_t mtu)
{
	struct ifinfomsg peer = {.ifi_family = AF_UNSPEC};
	uint8_t mac[6];
	struct nl_req q;

	/*
	 * Gives the host's end of the pair a MAC address that begins with 0xfe instead of 0x0a, so
	 * that it differs from the address of the container's end.
	 */
	memcpy(mac, a->mac, sizeof(mac));
	mac[0] = 0xfe;
	device_request(&q, a->host, mtu, mac);
	nl_put_u32(&q, IFLA_MASTER, (uint32_t)bridge);
	size_t info = nl_nest(&q, IFLA_LINKINFO);
	nl_put_str(&q, IFLA_INFO_KIND, "veth");
	size_t data = nl_nest(&q, IFLA_INFO_DATA);
	size_t other = q.h.nlmsg_len;
	nl_put(&q, VETH_INFO_PEER | NLA_F_NESTED, &peer, sizeof(peer));
	nl_put_str(&q, IFLA_IFNAME, a->interface);
	nl_put_u32(&q, IFLA_MTU, mtu);
	nl_put(&q, IFLA_ADDRESS, a->mac, sizeof(a->mac));
	nl_put_u32(&q, IFLA_NET_NS_FD, (uint32_t)netns);
	nl_nest_end(&q, other);
	nl_nest_end(&q, data);
	nl_nest_end(&q, info);
	int r = nl_call(&h->nl, &q, NULL, NULL);
	if (r == -EEXIST)
		return err_set(EEXIST,
			"interface %s exists already in %s: expected a name that is free there "
			"(--interface)",
			a->interface, a->netns);
	if (r == -EOPNOTSUPP)
		return err_set(EOPNOTSUPP,
			"this kernel has no veth pairs: load the module veth, or build the kernel "
			"with CONFIG_VETH");
	return r < 0 ? err_ctx(r, "make the veth pair %s, %s", a->host, a->interface) : 0;
}

/*
 * Lets the bridge send a packet out of the port by which the packet came in. A container needs that
 * to connect to a port that it publishes itself if the bridge calls the hooks of nftables
 * (br_netfilter), because the packet's destination is then translated before the bridge chooses a
 * port for the packet.
 */
static int set_hairpin(struct host *h, int index)
{
	struct ifinfomsg info = {.ifi_family = AF_BRIDGE, .ifi_index = index};
	uint8_t on = 1;
	struct nl_req q;

	nl_req_init(&q, RTM_SETLINK, 0, &info, sizeof(info));
	size_t port = nl_nest(&q, IFLA_PROTINFO);
	nl_put(&q, IFLA_BRPORT_MODE, &on, sizeof(on));
	nl_nest_end(&q, port);
	return nl_call(&h->nl, &q, NULL, NULL);
}

int veth_make(struct host *h, const struct attachment *a, int bridge, uint32_t mtu)
{
	_cleanup_fd_ int netns = netns_open(a->netns_now);
	struct device host;

	if (netns < 0)
		return netns;
	if (host_skips(h, "veth %s: make it, the other end is %s in %s", a->host, a->interface,
		    a->netns))
		return 0;
	int r = make_pair(h, a, netns, bridge, mtu);
	if (r >= 0)
		r = device_read(&h->nl, a->host, 0, &host);
	/*
	 * Switches IPv6 off at the host's end of the pair, so that the kernel gives it no address.
	 * This end is a port of the bridge, and the bridge has the host's addresses.
	 */
	if (r >= 0)
		r = sysctl_set(h, "1", "net/ipv6/conf/%s/disable_ipv6", a->host);
	if (r >= 0 && a->port_count)
		r = set_hairpin(h, host.link.index);
	if (r >= 0)
		r = link_set_flags(&h->nl, host.link.index, IFF_UP, 0);
	return r < 0 ? r : inside_set_up(h, a, netns);
}

int veth_lives(struct host *h, const struct attachment *a)
{
	struct device host;
	int r = device_read(&h->nl, a->host, 0, &host);

	if (r != -ENODEV)
		return r < 0 ? r : 1;
	err_clear();
	return 0;
}

int veth_remove(struct host *h, const struct attachment *a)
{
	struct device host;
	int r = device_read(&h->nl, a->host, 0, &host);

	/*
	 * Removes nothing if the interface is gone, because the kernel removes the pair together
	 * with the container's namespace, or if it is no veth, because another kind of interface
	 * with this name is not caisson's.
	 */
	if (r == -ENODEV || (r >= 0 && !streq(host.kind, "veth"))) {
		err_clear();
		return 0;
	}
	if (r < 0 || host_skips(h, "veth %s: remove it", a->host))
		return r;
	r = device_remove(&h->nl, host.link.index);
	return r < 0 ? err_ctx(r, "remove the interface %s", a->host) : 0;
}
