/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tap that stands in for an interface: the other end of a virtual machine's network device
 * (Documentation/networking/tuntap.rst, tc-mirred(8)).
 *
 * All that arrives at the interface goes to the tap, and all that the machine sends leaves by the
 * interface; ARP and neighbour discovery too, so that the machine alone answers for the addresses,
 * which stay where they are. Both calls act in the calling thread's network namespace, and need
 * CAP_NET_ADMIN there and /dev/net/tun.
 *
 * Who can't call net_tap_close(), because it is killed or has given its privilege away, closes the
 * descriptor: the tap goes away with it, and what remains at the interface is found and removed by
 * the next net_tap_open().
 */
#pragma once
#include "netsetup/carry/net_config.h"

#define NET_TAP_HEADER 12 /* bytes of struct virtio_net_hdr_v1 before each frame, little-endian */

struct net_tap {
	int fd; /* non-blocking, close-on-exec; a frame a read or write */
	char name[IFNAMSIZ];
	char interface[IFNAMSIZ];
	unsigned offloads; /* TUN_F_*, as far as this kernel has them; all are off */
	int index;         /* of the interface */
	bool own_qdisc, own_allmulti;
};

#define NET_TAP_INIT \
	{ \
		.fd = -EBADF \
	}

/*
 * i must be in this namespace. -ENOENT with the name of the kernel module that is missing; -EBUSY
 * if the interface's traffic goes to another tap already. After a failure nothing is left.
 */
int net_tap_open(const struct net_interface *i, struct net_tap *ret) must_check;

/*
 * Takes off what machines have left at the interfaces of the network namespace netns_fd, after who
 * held the descriptors could not call net_tap_close(). Interfaces of machines that run are not
 * touched. IFF_ALLMULTI stays as it is.
 */
int net_tap_sweep(int netns_fd) must_check;

/* Closes the descriptor whatever happens. 0 if the interface has gone in the meantime. */
int net_tap_close(struct net_tap *t);
