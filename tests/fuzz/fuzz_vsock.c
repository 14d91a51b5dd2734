/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the vsock device with a hostile guest: the input is a program of packets, receive buffers,
 * memory writes and resets, and of events at the host's ends of the streams. Besides the
 * sanitizers, the fuzzer checks that serving ends (by libFuzzer's timeout), that buffered data
 * stays within the credit, that every descriptor is closed and reported once, and that after a
 * reset the device starts as new.
 *
 * The first byte of an operation modulo 8 says which it is:
 *   0 op, port, flags, len[2], credit[2], done[2], lie   send a packet; lie: with a wrong header
 *   1 count, len[2]            offer receive buffers
 *   2 where[2], len, bytes     write guest memory at where * 16
 *   3 kind                     choose the result of the next connect()
 *   4 end, len, action         write to, read from or close one of the host's ends
 *   5 port, kind               the host opens a connection
 *   6 features                 bring the device up anew
 *   7 head, addr[2], len[2], flags, next   write a descriptor of queue 0 or 1, and offer it
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "unit/rig/vsock.h"

#define ENDS 16

struct input {
	const uint8_t *p;
	size_t left;
};

struct host {
	int ends[ENDS];
	unsigned count;
};

static uint32_t take(struct input *in, unsigned bytes)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < bytes && in->left > 0; i++, in->left--)
		v |= (uint32_t)*in->p++ << (8 * i);
	return v;
}

/*
 * Makes a descriptor that the device gets for a connection. If the descriptor is one end of a pipe
 * or of a socket pair, the function keeps the other end in struct host.
 */
static int make_end(struct host *h, unsigned kind, unsigned *ret_use)
{
	int p[2] = {-EBADF, -EBADF};

	*ret_use = 1 + kind / 8 % 3;
	switch (kind % 8) {
	case 0:
		return -ECONNREFUSED;
	case 1:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case 2:
		return open("/dev/zero", O_RDONLY | O_CLOEXEC);
	case 3:
		return memfd_create("file", MFD_CLOEXEC);
	case 4:
	case 5:
		if (pipe2(p, O_CLOEXEC | O_NONBLOCK) < 0)
			abort();
		break;
	default:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, p) < 0)
			abort();
	}
	unsigned mine = kind % 8 == 5;
	fd_close(&h->ends[h->count % ENDS]);
	h->ends[h->count++ % ENDS] = p[!mine];
	return p[mine];
}

static void put_packet(struct guest *s, struct input *in)
{
	struct virtio_vsock_hdr h = guest_header(0, (uint16_t)take(in, 1), 0);

	h.src_port = take(in, 1) % 4;
	h.dst_port = h.src_port < 2 ? 1 : VSOCK_DIAL_PORT_FIRST + h.src_port;
	h.flags = take(in, 1);
	uint32_t len = take(in, 2);
	h.len = len;
	h.buf_alloc = take(in, 2) * 16;
	h.fwd_cnt = take(in, 2);
	uint32_t lie = take(in, 1);
	if (lie & 1)
		h.len += 1 + (lie >> 1);
	if ((lie & 6) == 6)
		h.type = (uint16_t)(lie >> 3);
	if ((lie & 10) == 10)
		h.dst_cid = lie;
	if ((lie & 18) == 18)
		h.src_cid = lie;
	guest_send_raw(s, &h, NULL, len);
}

static void play_host(struct host *h, struct input *in)
{
	static char data[4096];
	int *end = &h->ends[take(in, 1) % ENDS];
	size_t len = take(in, 1) * 16;
	uint32_t action = take(in, 1) % 4;

	if (*end < 0)
		return;
	if (action == 0)
		(void)!write(*end, data, len);
	else if (action == 1)
		(void)!read(*end, data, len);
	else if (action == 2)
		fd_close(end);
	else
		shutdown(*end, (int)len / 16 % 3);
}

static void put_chain(struct guest *s, struct input *in)
{
	unsigned head = take(in, 1);
	/* The address is at most 4 MiB, because guest memory ends there. */
	uint64_t addr = (uint64_t)take(in, 2) * 64;
	uint32_t len = take(in, 2);
	unsigned flags = take(in, 1) & 7, next = take(in, 1);

	put_desc(desc(&s->g, head >> 7, head % s->g.size), addr, len, flags, next & 31);
	if (!(next & 0x80))
		offer(&s->g, head >> 7, head % s->g.size);
	kick(&s->g, head >> 7);
}

static void put_memory(struct guest *s, struct input *in)
{
	uint64_t where = (uint64_t)take(in, 2) * 16;
	size_t len = take(in, 1);

	if (len > in->left)
		len = in->left;
	if (len > 0 && vm_memory_at(&s->g.memory, where, len))
		memcpy(at(&s->g, where, len), in->p, len);
	in->p += len;
	in->left -= len;
}

static void step(struct guest *s, struct host *h, struct input *in)
{
	unsigned use;

	switch (take(in, 1) % 8) {
	case 0:
		put_packet(s, in);
		break;
	case 1: {
		unsigned count = take(in, 1) % 32, len = take(in, 2);

		for (unsigned i = 0; i < count; i++)
			guest_offer(s, i % s->g.size, len);
		kick(&s->g, 0);
		break;
	}
	case 2:
		put_memory(s, in);
		break;
	case 3:
		fd_close(&s->next_fd);
		s->next_fd = make_end(h, take(in, 1), &s->next_use);
		break;
	case 4:
		play_host(h, in);
		break;
	case 5: {
		uint32_t port = take(in, 1) % 4;
		int fd = make_end(h, take(in, 1), &use);

		if (fd >= 0)
			s->given += virtio_vsock_dial(&s->v, port, fd, use) >= 0;
		break;
	}
	case 6: {
		uint32_t f = take(in, 1);

		bring_up(&s->g, (f & 1 ? EVENT : 0) | (f & 2 ? INDIRECT : 0));
		break;
	}
	default:
		put_chain(s, in);
	}
}

static void check(const struct guest *s)
{
	unsigned large = 0, open = 0;

	for (unsigned i = 0; i < s->v.count; i++) {
		const struct vsock_conn *c = s->v.conns[i];

		large += c->size == VSOCK_CREDIT;
		open += c->stream.fd >= 0;
		if (c->len > c->size || (c->len > 0 && c->stream.fd < 0) || vsock_conn_is_gone(c))
			abort();
	}
	if (open != s->given - s->closed || large != s->v.large || large > VSOCK_LARGE_MAX ||
		s->v.count > VSOCK_CONNS_MAX || s->v.reset_count > VSOCK_RESETS_MAX)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct guest s;
	struct input in = {data, size};
	struct host h = {.count = 0};

	signal(SIGPIPE, SIG_IGN);
	for (unsigned i = 0; i < ENDS; i++)
		h.ends[i] = -EBADF;
	guest_start(&s, 32, 0);
	while (in.left > 0) {
		step(&s, &h, &in);
		guest_event(&s);
		check(&s);
	}
	/*
	 * Once all readers of the host's ends have gone, no data can wait for them, so a reset of
	 * the device must leave nothing of the connections behind.
	 */
	for (unsigned i = 0; i < ENDS; i++)
		fd_close(&h.ends[i]);
	bring_up(&s.g, 0);
	for (unsigned i = 0; i < 8; i++)
		guest_event(&s);
	check(&s);
	if (get(&s.g, VIRTIO_MMIO_STATUS) != 15 || s.v.reset_count != 0)
		abort();
	guest_stop(&s);
	if (s.v.count != 0 || s.given != s.closed)
		abort();
	return 0;
}
