/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network device on a real tap, whose other side is a network namespace with a UDP socket. The
 * test is the guest: it has the device's rings in plain memory. Making namespaces needs root, so
 * wire_need_root() skips the test without it.
 */
#pragma once
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/udp.h>

#include <linux/virtio_net.h>

#include "netsetup/net_tap.h"
#include "unit/rig/net_device.h"

struct wire {
	int before, box, peer;
	struct net_tap tap;
	struct nic t;
	int udp; /* a UDP socket in `peer`, bound to 10.9.0.1 port 7777 */
	/* eventfds for kicks of queues that vhost-net serves, and for its interrupts */
	int kicks[VIRTIO_QUEUES_MAX], call;
	/* number of used buffers of each receive queue that the guest has read */
	uint16_t seen[VIRTIO_NET_PAIRS_MAX];
};

struct datagram {
	struct virtio_net_hdr_v1 h;
	struct ether_header eth;
	struct iphdr ip;
	struct udphdr udp;
} __attribute__((packed));

void wire_need_root(void);
/* Makes the namespaces and the tap, but no device. */
void wire_connect(struct wire *w, unsigned queues);
/* Makes the device; with in_kernel vhost-net serves it. */
void wire_plug(struct wire *w, bool in_kernel);
void wire_unplug(struct wire *w);
/*
 * Does what wire_connect() with one queue does, and then what wire_plug() without vhost-net does.
 */
void wire_init(struct wire *w);
void wire_release(struct wire *w);

/* Starts the driver, which gives each receive queue 8 buffers of 4096 bytes. */
void wire_bring_up(struct wire *w, uint64_t features);
/*
 * Sends a datagram of `len` bytes from the guest on this pair of queues. The guest leaves the
 * checksum incomplete, so the host must complete it.
 */
void wire_guest_sends(struct wire *w, unsigned pair, uint32_t len, uint8_t gso_type);
void wire_peer_gets(struct wire *w, size_t len, size_t offset);
void wire_peer_sends(struct wire *w, size_t len, int segment);
/*
 * Waits until the guest gets a datagram on this pair of queues, and skips other frames, such as
 * ARP. *ret_first is the number of its first used buffer, *ret_len the bytes in that buffer.
 */
struct datagram wire_guest_gets(
	struct wire *w, unsigned pair, unsigned *ret_first, uint32_t *ret_len);
