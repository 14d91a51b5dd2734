/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network device behind the virtio-mmio transport, with a driver that has its rings in plain
 * memory.
 */
#pragma once
#include "unit/rig/virtio.h"
#include "vm/virtio/virtio_net.h"

#define RX 0
#define TX 1
#define HEADER 12
#define MERGEABLE (1ULL << VIRTIO_NET_F_MRG_RXBUF)
#define BUFFER(i) (DATA + 0x10000UL * (i))
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
/* the value of VIRTIO_NET_HDR_GSO_UDP_L4, which linux/virtio_net.h has only since Linux 6.2 */
#define GSO_UDP_L4 5
#define USO (7ULL << 54)

static const uint8_t nic_mac[6] = {2, 0, 0, 0, 0, 0x0a};

struct nic {
	struct rig g;
	struct virtio_net n;
	/*
	 * the ends of a socket pair: `tap` takes the place of the device's tap, `wire` is the
	 * test's end
	 */
	int tap, wire;
};

void nic_init(struct nic *t, uint64_t features);

void nic_release(struct nic *t);

/*
 * Handles the device's event, if it has one, as the event loop does. Returns whether the device had
 * an event.
 */
bool nic_serve_event(struct nic *t);

uint8_t frame_byte(size_t i);

/*
 * Sends the device a frame from the host's side: a zeroed header and a pattern, together `len`
 * bytes.
 */
void nic_send_from_wire(struct nic *t, size_t len);

void nic_give_buffer(struct nic *t, unsigned i, uint32_t len);
