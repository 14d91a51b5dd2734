/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/vsock_peer.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

void guest_send_op(struct guest *s, uint32_t port, uint16_t op, uint32_t flags)
{
	struct virtio_vsock_hdr h = guest_header(port, op, 0);
	uint16_t before = used(&s->g, 1)->idx;

	h.flags = flags;
	guest_send_raw(s, &h, NULL, 0);
	assert_int_equal(used(&s->g, 1)->idx, (uint16_t)(before + 1));
}

void guest_send_data(struct guest *s, uint32_t port, const void *data, uint32_t len)
{
	struct virtio_vsock_hdr h = guest_header(port, OP(RW), len);
	uint16_t before = used(&s->g, 1)->idx;

	guest_send_raw(s, &h, data, len);
	assert_int_equal(used(&s->g, 1)->idx, (uint16_t)(before + 1));
}

int guest_receive(struct guest *s)
{
	for (int i = 0; i < 3 && used(&s->g, 0)->idx == s->seen; i++)
		guest_event(s);
	if (used(&s->g, 0)->idx == s->seen)
		return 0;
	const struct vring_used_elem e = used(&s->g, 0)->ring[s->seen++ % s->g.size];
	const struct vring_desc *d = desc(&s->g, 0, e.id);
	memcpy(&s->h, at(&s->g, d->addr, VSOCK_HEADER), VSOCK_HEADER);
	assert_int_equal(e.len, VSOCK_HEADER + s->h.len);
	assert_int_equal(s->h.src_cid, VSOCK_HOST_CID);
	assert_int_equal(s->h.dst_cid, GUEST_CID);
	assert_int_equal(s->h.dst_port, GUEST_PORT);
	assert_int_equal(s->h.type, VIRTIO_VSOCK_TYPE_STREAM);
	free(s->data);
	s->data = malloc(s->h.len + 1);
	memcpy(s->data, at(&s->g, d->addr + VSOCK_HEADER, d->len - VSOCK_HEADER), s->h.len);
	s->data[s->h.len] = 0;
	offer(&s->g, 0, e.id);
	return s->h.op;
}

void guest_expect(struct guest *s, uint16_t op, uint32_t port, uint32_t flags)
{
	int got = guest_receive(s);

	if (got != op || s->h.src_port != port || s->h.flags != flags)
		fail_msg("op %d of port %u, flags %u: expected op %d of port %u, flags %u", got,
			s->h.src_port, s->h.flags, op, port, flags);
}

void guest_expect_data(struct guest *s, const char *text)
{
	guest_expect(s, OP(RW), HOST_PORT, 0);
	assert_string_equal((char *)s->data, text);
}

void guest_expect_quiet(struct guest *s)
{
	struct pollfd p = {s->v.dev.event_fd, POLLIN, 0};

	assert_int_equal(guest_receive(s), 0);
	assert_int_equal(poll(&p, 1, 0), 0);
}

void guest_begin(struct guest *s)
{
	signal(SIGPIPE, SIG_IGN);
	guest_start(s, 64, 0);
	guest_offer_all(s);
}

void guest_end(struct guest *s)
{
	free(s->data);
	guest_stop(s);
}

void guest_connect_to(struct guest *s, int fd, unsigned use)
{
	s->next_fd = fd;
	s->next_use = use;
	guest_send_op(s, HOST_PORT, OP(REQUEST), 0);
	guest_expect(s, OP(RESPONSE), HOST_PORT, 0);
}

bool is_hung_up(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}

size_t read_available(int fd, void *data, size_t max)
{
	size_t n = 0;
	struct pollfd p = {fd, POLLIN, 0};

	while (n < max && poll(&p, 1, 0) == 1) {
		ssize_t r = read(fd, (uint8_t *)data + n, max - n);
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	return n;
}

void fill_with_pattern(uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 9));
}
