/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the vsock device expect of it, in terms of packets (cmocka). */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "unit/vsock_rig.h"

#define OP(name) VIRTIO_VSOCK_OP_##name
#define SHUT(name) VIRTIO_VSOCK_SHUTDOWN_##name
#define SHUT_BOTH (SHUT(RCV) | SHUT(SEND))

static inline void send_op(struct guest *s, uint32_t port, uint16_t op, uint32_t flags)
{
	struct virtio_vsock_hdr h = guest_header(port, op, 0);
	uint16_t before = used(&s->g, 1)->idx;

	h.flags = flags;
	guest_send_raw(s, &h, NULL, 0);
	assert_int_equal(used(&s->g, 1)->idx, (uint16_t)(before + 1));
}

static inline void send_rw(struct guest *s, uint32_t port, const void *data, uint32_t len)
{
	struct virtio_vsock_hdr h = guest_header(port, OP(RW), len);
	uint16_t before = used(&s->g, 1)->idx;

	guest_send_raw(s, &h, data, len);
	assert_int_equal(used(&s->g, 1)->idx, (uint16_t)(before + 1));
}

/* The next packet for the guest into s->h and s->data; its op, or 0. Its buffer is offered again.
 */
static inline int receive(struct guest *s)
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

static inline void expect(struct guest *s, uint16_t op, uint32_t port, uint32_t flags)
{
	int got = receive(s);

	if (got != op || s->h.src_port != port || s->h.flags != flags)
		fail_msg("op %d of port %u, flags %u: expected op %d of port %u, flags %u", got,
			s->h.src_port, s->h.flags, op, port, flags);
}

static inline void expect_data(struct guest *s, const char *text)
{
	expect(s, OP(RW), HOST_PORT, 0);
	assert_string_equal((char *)s->data, text);
}

/* Nothing is to be done, and nobody is woken for it. */
static inline void expect_quiet(struct guest *s)
{
	struct pollfd p = {s->v.dev.event_fd, POLLIN, 0};

	assert_int_equal(receive(s), 0);
	assert_int_equal(poll(&p, 1, 0), 0);
}

static inline void start(struct guest *s)
{
	signal(SIGPIPE, SIG_IGN);
	guest_start(s, 64, 0);
	guest_offer_all(s);
}

static inline void stop(struct guest *s)
{
	free(s->data);
	guest_stop(s);
}

static inline unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static inline void connect_to(struct guest *s, int fd, unsigned use)
{
	s->next_fd = fd;
	s->next_use = use;
	send_op(s, HOST_PORT, OP(REQUEST), 0);
	expect(s, OP(RESPONSE), HOST_PORT, 0);
}

static inline bool is_closed(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}

static inline size_t read_all(int fd, void *data, size_t max)
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

static inline void fill_with_pattern(uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 9));
}
