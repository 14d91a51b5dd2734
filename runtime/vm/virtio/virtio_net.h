/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the network device (virtio 1.2, 5.1) on a tap. The device has one or more pairs of
 * queues: queue 2 * i carries frames to the guest, queue 2 * i + 1 frames from the guest. A device
 * with several pairs also has a control queue, which is the last queue, and by which the driver
 * says how many pairs it uses. Each pair has a descriptor of the tap, which is a queue of the tap.
 *
 *	virtio_net_init(&n, &memory, &options)
 *	a transport serves n.dev: kicks, and n.dev.event_fd
 *	virtio_net_release(&n)   after the event loop has ended, besides
 *	                         virtio_release(&n.dev); the caller closes the descriptors
 *
 * The tap (Documentation/networking/tuntap.rst) has IFF_VNET_HDR with a header of 12 bytes,
 * little-endian, so one readv(2) or writev(2) moves header and frame between guest memory and the
 * kernel. The kernel checks what the guest writes into the header; a frame that the kernel refuses
 * is dropped, as on a wire. The tap uses the offloads that the driver accepted, and none while
 * there is no driver.
 *
 * With `in_kernel` the kernel (vhost-net) serves the pairs, and the frames do not pass through this
 * process. Kicks go from KVM to vhost-net, and interrupts from vhost-net to KVM.
 */
#pragma once
#include "vm/virtio/device.h"

#define VIRTIO_NET_MTU_MIN 68
#define VIRTIO_NET_PAIRS_MAX ((VIRTIO_QUEUES_MAX - 1) / 2)

struct virtio_net_options {
	unsigned pairs; /* number of pairs of queues; 0: one */
	/*
	 * Non-blocking descriptors of the tap, one for each pair. If there are several, the tap has
	 * IFF_MULTI_QUEUE and each descriptor is attached. If `offloads` is 0 a datagram socket
	 * works too.
	 */
	int taps[VIRTIO_NET_PAIRS_MAX];
	/*
	 * vhost-net serves the pairs: vhost[i], a descriptor of /dev/vhost-net that no process has
	 * become the owner of, serves pair i
	 */
	bool in_kernel;
	int vhost[VIRTIO_NET_PAIRS_MAX];
	uint8_t mac[6];
	uint16_t mtu;      /* MTU of the guest's interface, at least VIRTIO_NET_MTU_MIN */
	unsigned offloads; /* TUN_F_* flags that the tap supports */
};

/*
 * The configuration space (virtio 1.2, 5.1.4), little-endian, up to the last member that an offered
 * feature needs.
 */
struct virtio_net_space {
	uint8_t mac[6];
	uint16_t status; /* VIRTIO_NET_S_LINK_UP, or 0 after the tap was lost */
	uint16_t max_virtqueue_pairs;
	uint16_t mtu;
};

struct net_rx;

struct virtio_net_pair {
	struct net_rx *rx; /* state of the receive queue, which net_rx.c defines */
	/* EPOLL* events of the tap that the epoll descriptor dev.event_fd reports */
	unsigned watched;
	/* rx_wait: the guest has given no buffer; tx_full: the tap takes no frame at the moment */
	bool rx_wait, tx_full;
	bool owned;      /* this process has become the owner of the pair's vhost-net descriptor */
	bool running[2]; /* vhost-net serves the receive queue, and the transmit queue */
};

struct virtio_net {
	struct virtio_device dev;
	struct virtio_net_space config;
	struct virtio_net_options options;
	/* the request that was last taken from a transmit queue or from the control queue */
	struct virtq_chain *chain;
	struct virtio_net_pair pairs[VIRTIO_NET_PAIRS_MAX];
	/*
	 * How many pairs the driver uses: the first ones. The descriptors of the tap of the others
	 * are detached, so that the tap passes no frames to them.
	 */
	unsigned active;
	bool started; /* the driver has become ready since the last reset */
	/*
	 * the state comes from a snapshot, so vhost-net starts only when the machine goes on,
	 * because the kernel may then make a thread
	 */
	bool loaded;
	bool dead; /* the tap was lost: another process has deleted it */
	unsigned long rx_frames, tx_frames, rx_dropped, tx_dropped;
};

int virtio_net_init(struct virtio_net *n, const struct vm_memory *m,
	const struct virtio_net_options *options) must_check;
void virtio_net_release(struct virtio_net *n);
