/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the network device (virtio 1.2, 5.1) on a tap. Queue 0 carries frames to the guest,
 * queue 1 frames from the guest, and there is no control queue.
 *
 *	virtio_net_init(&n, &memory, &options)
 *	a transport serves n.dev: kicks, and n.dev.event_fd
 *	virtio_net_release(&n)   after the event loop has ended, besides
 *	                         virtio_release(&n.dev); the caller closes the tap
 *
 * The tap (Documentation/networking/tuntap.rst) has IFF_VNET_HDR with a header of 12 bytes,
 * little-endian, so one readv(2) or writev(2) moves header and frame between guest memory and the
 * kernel. The kernel checks what the guest writes into the header; a frame that the kernel refuses
 * is dropped, as on a wire. The tap uses the offloads that the driver accepted, and none while
 * there is no driver.
 */
#pragma once
#include "vm/virtio/device.h"

#define VIRTIO_NET_MTU_MIN 68

struct virtio_net_options {
	/* non-blocking descriptor of the tap; a datagram socket works too if `offloads` is 0 */
	int tap;
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

struct virtio_net {
	struct virtio_device dev;
	struct virtio_net_space config;
	struct virtio_net_options options;
	struct virtq_chain *tx;
	struct net_rx *rx; /* state of the receive queue, which virtio_net.c defines */
	/* EPOLL* events of the tap that the epoll descriptor dev.event_fd reports */
	unsigned watched;
	bool started; /* the driver has become ready since the last reset */
	/* rx_wait: the guest has given no buffer; tx_full: the tap takes no frame at the moment */
	bool rx_wait, tx_full;
	bool dead; /* the tap was lost: another process has deleted it */
	unsigned long rx_frames, tx_frames, rx_dropped, tx_dropped;
};

int virtio_net_init(struct virtio_net *n, const struct vm_memory *m,
	const struct virtio_net_options *options) must_check;
void virtio_net_release(struct virtio_net *n);

/*
 * These functions of net_state.c are the functions save() and load() of the device's struct
 * virtio_ops.
 */
int virtio_net_save(struct virtio_device *d, struct snapshot_writer *w) must_check;
int virtio_net_load(struct virtio_device *d, struct snapshot_part *p) must_check;
