/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes tap devices. A tap takes the place of a network interface: it is the host's end of a
 * virtual machine's network device (Documentation/networking/tuntap.rst, tc-mirred(8)).
 *
 * The kernel passes every frame that arrives at the interface to the tap, and sends every frame of
 * the machine out of the interface, including ARP and neighbour discovery. So only the machine
 * answers for the interface's addresses, although the addresses stay at the interface.
 * net_tap_open() and net_tap_close() act in the calling thread's network namespace, and need
 * CAP_NET_ADMIN there and /dev/net/tun.
 *
 * A process that is killed or has given up its privilege cannot call net_tap_close(). When the
 * process's descriptors of the tap are closed, the kernel removes the tap. The redirection that
 * remains at the interface is removed by the next net_tap_open() or by net_tap_sweep().
 */
#pragma once
#include "netsetup/carry/net_config.h"

#define NET_TAP_HEADER 12 /* bytes of struct virtio_net_hdr_v1 before each frame, little-endian */

/* how many queues a tap has at most: as many as a virtual machine's network device has pairs */
#define NET_TAP_QUEUES_MAX 8

struct net_tap {
	/*
	 * descriptors of the tap's queues, non-blocking and close-on-exec; each read or write is
	 * one frame
	 */
	int fds[NET_TAP_QUEUES_MAX];
	unsigned queues;
	/*
	 * descriptors of /dev/vhost-net, one for each queue, if net_tap_open_vhost() has opened
	 * them, else -EBADF
	 */
	int vhost[NET_TAP_QUEUES_MAX];
	char name[IFNAMSIZ];
	char interface[IFNAMSIZ];
	/* TUN_F_* flags of the offloads that this kernel supports; all offloads are off at first */
	unsigned offloads;
	int index; /* index of the interface whose traffic the tap gets */
	bool own_qdisc, own_allmulti;
};

#define NET_TAP_INIT \
	{ \
		.fds = {[0 ... NET_TAP_QUEUES_MAX - 1] = -EBADF}, \
		.vhost = {[0 ... NET_TAP_QUEUES_MAX - 1] = -EBADF}, \
	}

/*
 * Makes a tap with that many queues, redirects the traffic of the interface i to the tap, and
 * redirects the traffic of the tap to the interface. The interface must be in the calling thread's
 * namespace. Returns -ENOENT if a kernel module is missing, which the message names, and -EBUSY if
 * the interface's traffic goes to another tap already. After a failure everything that the function
 * made is removed.
 */
int net_tap_open(const struct net_interface *i, unsigned queues, struct net_tap *ret) must_check;

/*
 * Opens /dev/vhost-net once for each queue of the tap, for a virtual machine whose frames the
 * kernel is to move. Returns false if the kernel has no vhost-net, or if this process may not use
 * it; the tap works without it.
 */
bool net_tap_open_vhost(struct net_tap *t);

/*
 * Closes the descriptors of the tap, after which the kernel removes the tap, and leaves the
 * redirection at the interface.
 */
void net_tap_forget(struct net_tap *t);

/*
 * Removes the redirections that stopped machines have left at the interfaces of the network
 * namespace netns_fd. Changes neither the interfaces of running machines nor IFF_ALLMULTI.
 */
int net_tap_sweep(int netns_fd) must_check;

/*
 * Removes the redirection between interface and tap, and closes the tap's descriptors, even if
 * removing the redirection fails. Returns 0 if the interface no longer exists.
 */
int net_tap_close(struct net_tap *t);
