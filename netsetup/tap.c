/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <sys/ioctl.h>

#include "netsetup/net_tap.h"
#include "netsetup/rtnl/link.h"
#include "netsetup/rtnl/tc.h"

#ifndef TUN_F_USO4 /* a flag of the ioctl TUNSETOFFLOAD, in the kernel since Linux 6.2 */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* largest MTU of a tap: MAX_MTU of the kernel's drivers/net/tun.c, less the Ethernet header */
#define TAP_MTU_MAX (65535 - 14)

static int open_tun(void)
{
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	if (fd >= 0)
		return fd;
	if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
		return err_set(ENOENT,
			"there is no /dev/net/tun, which a virtual machine's network needs: "
			"modprobe tun, or make the device node (character device 10:200)");
	return err_sys("open /dev/net/tun for a virtual machine's network");
}

/*
 * Finds out which offloads this kernel supports, so that the machine can leave checksums and
 * segmentation to the host. All offloads stay off until the machine's driver has said which ones it
 * supports.
 */
static int probe_offloads(int fd, unsigned *ret)
{
	const unsigned base = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN;
	const unsigned tries[] = {base | TUN_F_USO4 | TUN_F_USO6, base, TUN_F_CSUM, 0};

	for (size_t i = 0; i < ARRAY_SIZE(tries); i++) {
		*ret = tries[i];
		if (ioctl(fd, TUNSETOFFLOAD, (unsigned long)tries[i]) < 0)
			continue;
		if (ioctl(fd, TUNSETOFFLOAD, 0UL) == 0)
			return 0;
	}
	return err_sys("set the offloads of a tap device (TUNSETOFFLOAD)");
}

/*
 * Opens the tap's queues. The kernel makes the tap for the first one, and the others join it by its
 * name.
 */
static int open_queues(struct net_tap *t, unsigned queues)
{
	struct ifreq req = {.ifr_name = "tap%d",
		.ifr_flags = (short)(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR |
				     (queues > 1 ? IFF_MULTI_QUEUE : 0))};

	for (; t->queues < queues; t->queues++) {
		int *fd = &t->fds[t->queues];

		*fd = open_tun();
		if (*fd < 0)
			return *fd;
		if (ioctl(*fd, TUNSETIFF, &req) < 0)
			return err_sys("make queue %u of a tap device (this needs CAP_NET_ADMIN in "
				       "the network namespace)",
				t->queues);
	}
	memcpy(t->name, req.ifr_name, sizeof(t->name));
	t->name[IFNAMSIZ - 1] = '\0';
	return 0;
}

static int make_tap(struct net_tap *t, unsigned queues)
{
	int size = NET_TAP_HEADER, little_endian = 1;
	int r = open_queues(t, queues);

	if (r < 0)
		return r;
	if (ioctl(t->fds[0], TUNSETVNETHDRSZ, &size) < 0)
		return err_sys("%s: set the size of the frame headers (TUNSETVNETHDRSZ)", t->name);
	if (ioctl(t->fds[0], TUNSETVNETLE, &little_endian) < 0)
		return err_sys(
			"%s: set the byte order of the frame headers (TUNSETVNETLE)", t->name);
	return probe_offloads(t->fds[0], &t->offloads);
}

bool net_tap_open_vhost(struct net_tap *t)
{
	for (unsigned i = 0; i < t->queues; i++) {
		t->vhost[i] = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
		if (t->vhost[i] >= 0)
			continue;
		while (i > 0)
			fd_close(&t->vhost[--i]);
		return false;
	}
	return true;
}

void net_tap_forget(struct net_tap *t)
{
	for (unsigned i = 0; i < NET_TAP_QUEUES_MAX; i++) {
		fd_close(&t->vhost[i]);
		fd_close(&t->fds[i]);
	}
	t->queues = 0;
}

/*
 * Keeps the host's IPv6 from giving the tap an address, because the router solicitations of such an
 * address would reach the machine as frames. A kernel without IPv6 does not know the attribute and
 * refuses it, which does no harm.
 */
static void silence_ipv6(struct nl *nl, int index)
{
	const uint8_t none = IN6_ADDR_GEN_MODE_NONE;
	struct nl_req q;

	nl_req_link(&q, RTM_NEWLINK, 0, index);
	size_t spec = nl_nest(&q, IFLA_AF_SPEC);
	size_t six = nl_nest(&q, AF_INET6);
	nl_put(&q, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
	nl_nest_end(&q, six);
	nl_nest_end(&q, spec);
	if (nl_call(nl, &q, NULL, NULL) < 0)
		err_clear();
}

static int set_tap_up(struct nl *nl, int index, uint32_t mtu)
{
	struct nl_req q;

	silence_ipv6(nl, index);
	nl_req_link(&q, RTM_NEWLINK, 0, index);
	nl_put_u32(&q, IFLA_MTU, mtu < TAP_MTU_MAX ? mtu : TAP_MTU_MAX);
	int r = nl_call(nl, &q, NULL, NULL);
	return r < 0 ? r : link_set_flags(nl, index, IFF_UP, 0);
}

/*
 * Sets IFF_ALLMULTI on the interface, because the machine joins multicast groups that the
 * interface's own filter (of a macvlan, for example) does not know.
 */
static int pass_multicast(struct nl *nl, const struct link *link, struct net_tap *t)
{
	if (link->flags & IFF_ALLMULTI)
		return 0;
	t->own_allmulti = true;
	return link_set_flags(nl, link->index, IFF_ALLMULTI, 0);
}

static int connect_tap(struct nl *nl, const struct net_interface *i, struct net_tap *t)
{
	struct link link, tap;
	/*
	 * nothing reads this variable, because the kernel removes the tap's qdisc together with the
	 * tap
	 */
	bool tap_qdisc;

	int r = link_get(nl, i->name, 0, &link);
	if (r < 0)
		return r;
	memcpy(t->interface, link.name, sizeof(t->interface));
	r = link_get(nl, t->name, 0, &tap);
	if (r >= 0)
		r = set_tap_up(nl, tap.index, i->mtu);
	if (r >= 0)
		r = tc_redirect(nl, tap.index, link.index, &tap_qdisc);
	if (r < 0)
		return err_ctx(r, "%s", t->name);
	r = tc_redirect(nl, link.index, tap.index, &t->own_qdisc);
	if (r < 0)
		return r;
	t->index = link.index; /* from here on net_tap_close() removes the redirection */
	return pass_multicast(nl, &link, t);
}

int net_tap_open(const struct net_interface *i, unsigned queues, struct net_tap *ret)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct net_tap t = NET_TAP_INIT;
	char text[1024];

	int r = make_tap(&t, queues);
	if (r >= 0)
		r = nl_open(&nl, -EBADF);
	if (r >= 0)
		r = connect_tap(&nl, i, &t);
	if (r >= 0) {
		*ret = t;
		return 0;
	}
	err_ctx(r, "give the network interface %s to a virtual machine", i->name);
	snprintf(text, sizeof(text), "%s", err_msg());
	(void)net_tap_close(&t);
	return err_set(-r, "%s", text);
}

int net_tap_close(struct net_tap *t)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	int r = 0;

	net_tap_forget(t); /* after this the kernel removes the tap and its qdisc */
	if (t->index)
		r = nl_open(&nl, -EBADF);
	if (r >= 0 && t->index)
		r = tc_redirect_remove(&nl, t->index, t->own_qdisc);
	if (r >= 0 && t->index && t->own_allmulti)
		r = link_set_flags(&nl, t->index, 0, IFF_ALLMULTI);
	t->index = 0;
	if (r == -ENODEV) {
		err_clear();
		return 0;
	}
	return r < 0 ? err_ctx(r, "take the redirection off the network interface %s", t->interface)
		     : 0;
}

struct interfaces {
	size_t n;
	/*
	 * indexes of the interfaces; the array has room for more interfaces than any engine gives a
	 * container
	 */
	int index[64];
};

static int list_interface(const struct nlmsghdr *h, void *arg)
{
	const struct ifinfomsg *m = nl_payload(h);
	struct interfaces *all = arg;

	if (h->nlmsg_type == RTM_NEWLINK && all->n < ARRAY_SIZE(all->index))
		all->index[all->n++] = m->ifi_index;
	return 0;
}

int net_tap_sweep(int netns_fd)
{
	_cleanup_nl_ struct nl nl = NL_INIT;
	struct interfaces all = {0};
	struct nl_req q;

	int r = nl_open(&nl, netns_fd);
	if (r < 0)
		return r;
	nl_req_link(&q, RTM_GETLINK, NLM_F_DUMP, 0);
	r = nl_call(&nl, &q, list_interface, &all);
	for (size_t i = 0; r >= 0 && i < all.n; i++)
		r = tc_redirect_sweep(&nl, all.index[i]);
	return r < 0 ? err_ctx(r, "take a microVM's redirection off its network interfaces") : 0;
}
