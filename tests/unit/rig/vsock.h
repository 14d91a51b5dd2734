/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plays the guest's side of a vsock device: the test builds each packet itself, without a guest's
 * kernel.
 */
#pragma once
#include "unit/rig/virtio.h"
#include "vm/virtio/vsock.h"

#define GUEST_CID 42
#define GUEST_PORT 1000
#define HOST_PORT 5
#define RX_AT(i) (0x200000 + (uint64_t)(i)*0x2000)
#define RX_BIG 0x300000
#define PACKET_MAX 0x40000

struct guest {
	struct rig g;
	struct virtio_vsock v;
	/* result of the next call of the connect() that the device makes: a descriptor or -errno */
	int next_fd;
	unsigned next_use;
	unsigned connects, closed;
	unsigned given; /* number of descriptors that connect() has given to the device */
	uint32_t closed_port;
	uint16_t seen;             /* number of used receive buffers that the test has read */
	struct virtio_vsock_hdr h; /* header of the last packet that the test has received */
	uint8_t *data;
};

int guest_connect(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use);

/* Makes the vsock device and brings it up with queues of `size` entries and no receive buffers. */
void guest_start(struct guest *s, unsigned size, uint64_t features);
void guest_stop(struct guest *s);
void guest_offer(struct guest *s, unsigned i, uint32_t len);

/*
 * Fills the receive queue with buffers of the size that Linux uses, which is 4 KiB and the header.
 */
void guest_offer_all(struct guest *s);
void guest_event(struct guest *s);

/* Sends a packet that has `len` bytes of data and a header that announces h->len bytes. */
void guest_send_raw(
	struct guest *s, const struct virtio_vsock_hdr *h, const void *data, uint32_t len);
struct virtio_vsock_hdr guest_header(uint32_t port, uint16_t op, uint32_t len);
