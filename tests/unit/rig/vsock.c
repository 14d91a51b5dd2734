/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/vsock.h"

#include <errno.h>

#include "base/fd.h"

int guest_connect(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use)
{
	struct guest *s = ctx;

	s->connects++;
	if (s->next_fd >= 0) {
		*ret_use = s->next_use;
		s->given++;
	}
	return s->next_fd >= 0 ? take_fd(&s->next_fd) : s->next_fd;
}

static void guest_closed(void *ctx, uint32_t guest_port, uint32_t port)
{
	struct guest *s = ctx;

	s->closed++;
	s->closed_port = port;
}

void guest_start(struct guest *s, unsigned size, uint64_t features)
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

void guest_stop(struct guest *s)
{
	fd_close(&s->next_fd);
	virtio_vsock_release(&s->v);
	rig_release(&s->g);
}

void guest_offer(struct guest *s, unsigned i, uint32_t len)
{
	put_desc(desc(&s->g, 0, i), len > 0x2000 ? RX_BIG : RX_AT(i), len, WRITE, 0);
	offer(&s->g, 0, i);
}

void guest_offer_all(struct guest *s)
{
	for (unsigned i = 0; i < s->g.size; i++)
		guest_offer(s, i, VSOCK_HEADER + 4096);
	kick(&s->g, 0);
}

void guest_event(struct guest *s)
{
	s->v.dev.ops->event(&s->v.dev);
}

void guest_send_raw(
	struct guest *s, const struct virtio_vsock_hdr *h, const void *data, uint32_t len)
{
	memcpy(at(&s->g, DATA, VSOCK_HEADER), h, VSOCK_HEADER);
	if (len > 0 && data)
		memcpy(at(&s->g, DATA + VSOCK_HEADER, len), data, len);
	put_desc(desc(&s->g, 1, 0), DATA, VSOCK_HEADER + len, 0, 0);
	offer(&s->g, 1, 0);
	kick(&s->g, 1);
}

struct virtio_vsock_hdr guest_header(uint32_t port, uint16_t op, uint32_t len)
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
