/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's side of a vsock device, on the rig: packets by hand, no kernel. */
#pragma once
#include "unit/vm_rig.h"
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
	int next_fd; /* what connect() gives next, or -errno */
	unsigned next_use;
	unsigned connects, closed;
	unsigned given; /* descriptors that the device has had */
	uint32_t closed_port;
	uint16_t seen;             /* used receive buffers that were looked at */
	struct virtio_vsock_hdr h; /* of the packet last received */
	uint8_t *data;
};

static inline int guest_connect(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use)
{
	struct guest *s = ctx;

	s->connects++;
	if (s->next_fd >= 0) {
		*ret_use = s->next_use;
		s->given++;
	}
	return s->next_fd >= 0 ? take_fd(&s->next_fd) : s->next_fd;
}

static inline void guest_closed(void *ctx, uint32_t guest_port, uint32_t port)
{
	struct guest *s = ctx;

	s->closed++;
	s->closed_port = port;
}

/* A device without receive buffers. */
static inline void guest_start(struct guest *s, unsigned size, uint64_t features)
{
	const struct virtio_vsock_options o = {GUEST_CID, true, guest_connect, guest_closed, s};

	*s = (struct guest){.next_fd = -ECONNREFUSED, .next_use = VSOCK_BOTH};
	rig_memory(&s->g);
	s->g.size = (uint16_t)size;
	if (virtio_vsock_init(&s->v, &s->g.memory, &o) < 0)
		abort();
	rig_attach(&s->g, &s->v.dev);
	bring_up(&s->g, features);
}

static inline void guest_stop(struct guest *s)
{
	fd_close(&s->next_fd);
	virtio_vsock_release(&s->v);
	rig_release(&s->g);
}

static inline void guest_offer(struct guest *s, unsigned i, uint32_t len)
{
	put_desc(desc(&s->g, 0, i), len > 0x2000 ? RX_BIG : RX_AT(i), len, WRITE, 0);
	offer(&s->g, 0, i);
}

/* Receive buffers as Linux has them: 4 KiB and the header. */
static inline void guest_offer_all(struct guest *s)
{
	for (unsigned i = 0; i < s->g.size; i++)
		guest_offer(s, i, VSOCK_HEADER + 4096);
	kick(&s->g, 0);
}

static inline void guest_event(struct guest *s)
{
	s->v.dev.ops->event(&s->v.dev);
}

/* Offers one packet with `len` bytes of data, and says that there are h->len. */
static inline void guest_send_raw(
	struct guest *s, const struct virtio_vsock_hdr *h, const void *data, uint32_t len)
{
	memcpy(at(&s->g, DATA, VSOCK_HEADER), h, VSOCK_HEADER);
	if (len > 0 && data)
		memcpy(at(&s->g, DATA + VSOCK_HEADER, len), data, len);
	put_desc(desc(&s->g, 1, 0), DATA, VSOCK_HEADER + len, 0, 0);
	offer(&s->g, 1, 0);
	kick(&s->g, 1);
}

static inline struct virtio_vsock_hdr guest_header(uint32_t port, uint16_t op, uint32_t len)
{
	return (struct virtio_vsock_hdr){.src_cid = GUEST_CID,
		.dst_cid = VSOCK_HOST_CID,
		.src_port = GUEST_PORT,
		.dst_port = port,
		.len = len,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = 1U << 30};
}
