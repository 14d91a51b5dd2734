/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The vsock device behind the mmio transport: every kind of descriptor, both directions, credit,
 * ends, and guests that lie. Plain memory, no KVM.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <dirent.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>

#include "vsock_rig.h"

#define OP(name) VIRTIO_VSOCK_OP_##name
#define SHUT(name) VIRTIO_VSOCK_SHUTDOWN_##name
#define SHUT_BOTH (SHUT(RCV) | SHUT(SEND))

static void send_op(struct guest *s, uint32_t port, uint16_t op, uint32_t flags)
{
	struct virtio_vsock_hdr h = guest_header(port, op, 0);
	uint16_t before = used(&s->g, 1)->idx;

	h.flags = flags;
	guest_send_raw(s, &h, NULL, 0);
	assert_int_equal(used(&s->g, 1)->idx, (uint16_t)(before + 1));
}

static void send_rw(struct guest *s, uint32_t port, const void *data, uint32_t len)
{
	struct virtio_vsock_hdr h = guest_header(port, OP(RW), len);
	uint16_t before = used(&s->g, 1)->idx;

	guest_send_raw(s, &h, data, len);
	assert_int_equal(used(&s->g, 1)->idx, (uint16_t)(before + 1));
}

/* The next packet for the guest into s->h and s->data; its op, or 0. Its buffer is offered again.
 */
static int receive(struct guest *s)
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

static void expect(struct guest *s, uint16_t op, uint32_t port, uint32_t flags)
{
	int got = receive(s);

	if (got != op || s->h.src_port != port || s->h.flags != flags)
		fail_msg("op %d of port %u, flags %u: expected op %d of port %u, flags %u", got,
			s->h.src_port, s->h.flags, op, port, flags);
}

static void expect_data(struct guest *s, const char *text)
{
	expect(s, OP(RW), HOST_PORT, 0);
	assert_string_equal((char *)s->data, text);
}

/* Nothing is to be done, and nobody is woken for it. */
static void expect_quiet(struct guest *s)
{
	struct pollfd p = {s->v.dev.event_fd, POLLIN, 0};

	assert_int_equal(receive(s), 0);
	assert_int_equal(poll(&p, 1, 0), 0);
}

static void start(struct guest *s)
{
	signal(SIGPIPE, SIG_IGN);
	guest_start(s, 64, 0);
	guest_offer_all(s);
}

static void stop(struct guest *s)
{
	free(s->data);
	guest_stop(s);
}

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void connect_to(struct guest *s, int fd, unsigned use)
{
	s->next_fd = fd;
	s->next_use = use;
	send_op(s, HOST_PORT, OP(REQUEST), 0);
	expect(s, OP(RESPONSE), HOST_PORT, 0);
}

static bool is_closed(int fd)
{
	struct pollfd p = {fd, POLLIN, 0};

	return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}

static size_t read_all(int fd, void *data, size_t max)
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

/* --- sockets --- */

static void socket_stream(void **state)
{
	struct guest s;
	char text[16] = "";
	int pair[2];

	start(&s);
	assert_int_equal(*(uint64_t *)s.v.dev.config, GUEST_CID);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	connect_to(&s, pair[0], VSOCK_BOTH);
	assert_int_equal(s.h.buf_alloc, VSOCK_CREDIT);
	send_rw(&s, HOST_PORT, "from guest", 10);
	assert_int_equal(read(pair[1], text, sizeof(text)), 10);
	assert_string_equal(text, "from guest");
	assert_int_equal(write(pair[1], "to guest", 8), 8);
	expect_data(&s, "to guest");
	assert_int_equal(s.h.fwd_cnt, 10);
	expect_quiet(&s);
	/* Each direction ends by itself. */
	send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT(SEND));
	assert_int_equal(read(pair[1], text, sizeof(text)), 0);
	assert_int_equal(write(pair[1], "more", 4), 4);
	expect_data(&s, "more");
	expect_quiet(&s);
	shutdown(pair[1], SHUT_WR);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
	assert_true(is_closed(pair[1]));
	assert_int_equal(s.closed, 1);
	assert_int_equal(s.closed_port, HOST_PORT);
	assert_int_equal(s.v.count, 1); /* until the guest has agreed */
	send_op(&s, HOST_PORT, OP(RST), 0);
	assert_int_equal(s.v.count, 0);
	expect_quiet(&s);
	fd_close(&pair[1]);
	assert_int_equal(s.closed, 1);
	stop(&s);
}

static void guest_closes(void **state)
{
	struct guest s;
	char text[16] = "";
	int pair[2];

	start(&s);
	/* At once, with data on the way to it: the host's side gets what the guest wrote. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	connect_to(&s, pair[0], VSOCK_BOTH);
	send_rw(&s, HOST_PORT, "bye", 3);
	send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT_BOTH);
	expect(&s, OP(RST), HOST_PORT, 0);
	assert_int_equal(read(pair[1], text, sizeof(text)), 3);
	assert_int_equal(read(pair[1], text, sizeof(text)), 0);
	assert_int_equal(write(pair[1], "x", 1), -1);
	assert_int_equal(s.v.count, 0);
	fd_close(&pair[1]);
	/* Only its reading: the host's writer learns that. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	connect_to(&s, pair[0], VSOCK_BOTH);
	send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT(RCV));
	assert_int_equal(write(pair[1], "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	send_rw(&s, HOST_PORT, "still", 5);
	assert_int_equal(read(pair[1], text, sizeof(text)), 5);
	/* The host's reader goes: the guest's writer learns that, and the stream is over. */
	fd_close(&pair[1]);
	send_rw(&s, HOST_PORT, "x", 1);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
	assert_int_equal(s.closed, 2);
	send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT_BOTH);
	expect(&s, OP(RST), HOST_PORT, 0);
	assert_int_equal(s.v.count, 0);
	/* Without any good-bye. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	connect_to(&s, pair[0], VSOCK_BOTH);
	send_op(&s, HOST_PORT, OP(RST), 0);
	assert_true(is_closed(pair[1]));
	expect_quiet(&s);
	fd_close(&pair[1]);
	stop(&s);
}

static void dialed(void **state)
{
	struct guest s;
	int pair[2];

	start(&s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(write(pair[1], "early", 5), 5);
	int port = virtio_vsock_dial(&s.v, GUEST_PORT, pair[0], VSOCK_BOTH);
	assert_int_equal(port, VSOCK_DIAL_PORT_FIRST);
	expect(&s, OP(REQUEST), (uint32_t)port, 0);
	expect_quiet(&s); /* no data before the answer */
	send_op(&s, (uint32_t)port, OP(RESPONSE), 0);
	expect(&s, OP(RW), (uint32_t)port, 0);
	assert_string_equal((char *)s.data, "early");
	/* A second one, which is refused. */
	int other[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
	port = virtio_vsock_dial(&s.v, GUEST_PORT, other[0], VSOCK_BOTH);
	assert_int_equal(port, VSOCK_DIAL_PORT_FIRST + 1);
	expect(&s, OP(REQUEST), (uint32_t)port, 0);
	send_op(&s, (uint32_t)port, OP(RST), 0);
	assert_true(is_closed(other[1]));
	assert_int_equal(s.closed_port, port);
	fd_close(&other[1]);
	/* One that gets data for an answer. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
	port = virtio_vsock_dial(&s.v, GUEST_PORT, other[0], VSOCK_BOTH);
	expect(&s, OP(REQUEST), (uint32_t)port, 0);
	send_rw(&s, (uint32_t)port, "x", 1);
	expect(&s, OP(RST), (uint32_t)port, 0);
	assert_true(is_closed(other[1]));
	fd_close(&other[1]);
	/* No driver: refused, and the descriptor is gone too. */
	set(&s.g, VIRTIO_MMIO_STATUS, 0);
	assert_true(is_closed(pair[1]));
	fd_close(&pair[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(virtio_vsock_dial(&s.v, 1, pair[0], VSOCK_BOTH), -ENOTCONN);
	assert_true(is_closed(pair[1]));
	fd_close(&pair[1]);
	stop(&s);
}

/* --- standard streams --- */

/* How a stream comes by not waiting; LIMIT keeps it from opening a description of its own. */
enum way { OWN, LIMIT, POLLED, WAYS };

static void connect_way(struct guest *s, enum way way, int fd, unsigned use)
{
	struct rlimit old, none;

	getrlimit(RLIMIT_NOFILE, &old);
	none = (struct rlimit){0, old.rlim_max};
	if (way != OWN)
		setrlimit(RLIMIT_NOFILE, &none);
	connect_to(s, fd, use);
	setrlimit(RLIMIT_NOFILE, &old);
	struct vsock_stream *t = &s->v.conns[0]->stream;
	assert_int_equal(t->mode == VSOCK_PLAIN, way == OWN);
	if (way == POLLED)
		t->mode = VSOCK_POLL;
}

static void input_pipe(void **state)
{
	for (int way = 0; way < WAYS; way++) {
		struct guest s;
		int p[2];

		start(&s);
		assert_int_equal(pipe2(p, O_CLOEXEC), 0);
		int held = dup(p[0]); /* as whoever started us does */
		connect_way(&s, way, p[0], VSOCK_BOTH);
		expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(RCV)); /* it can't be written to */
		expect_quiet(&s);                               /* nor do we wait in a read */
		assert_int_equal(write(p[1], "one", 3), 3);
		expect_data(&s, "one");
		assert_int_equal(write(p[1], "two", 3), 3);
		expect_data(&s, "two");
		expect_quiet(&s);
		assert_int_equal(fcntl(held, F_GETFL) & O_NONBLOCK, 0);
		/* What the guest writes anyway is thrown away. */
		send_rw(&s, HOST_PORT, "x", 1);
		assert_int_equal(write(p[1], "three", 5), 5);
		fd_close(&p[1]);
		expect_data(&s, "three");
		expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
		assert_int_equal(s.closed, 1);
		send_op(&s, HOST_PORT, OP(RST), 0);
		fd_close(&held);
		expect_quiet(&s);
		stop(&s);
	}
}

static void input_unwanted(void **state)
{
	struct guest s;
	int p[2];

	start(&s);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	connect_to(&s, p[0], VSOCK_TO_GUEST);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(RCV));
	send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT(RCV));
	assert_int_equal(write(p[1], "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
	fd_close(&p[1]);
	stop(&s);
}

static void fill_with_pattern(uint8_t *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)(i * 7 + (i >> 9));
}

/* More than a pipe takes: kept within the credit, in order, and delivered whatever the guest does.
 */
static void output_pipe(void **state)
{
	const uint32_t len = VSOCK_CREDIT;
	_cleanup_free_ uint8_t *data = malloc(2 * len), *got = malloc(2 * len);

	fill_with_pattern(data, 2 * len);
	for (int way = 0; way < WAYS; way++) {
		struct guest s;
		int p[2];

		start(&s);
		assert_int_equal(pipe2(p, O_CLOEXEC), 0);
		int held = dup(p[1]);
		connect_way(&s, way, p[1], VSOCK_BOTH);
		expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
		for (uint32_t i = 0; i < len; i += 0x10000)
			send_rw(&s, HOST_PORT, data + i, 0x10000);
		uint32_t kept = s.v.conns[0]->len;
		assert_true(kept >= len - 0x10000 && kept < len);
		expect_quiet(&s);
		uint32_t n = (uint32_t)read_all(p[0], got, 0x4000);
		while (n < len) {
			guest_event(&s);
			n += (uint32_t)read_all(p[0], got + n, len - n);
		}
		expect(&s, OP(CREDIT_UPDATE), HOST_PORT, 0);
		assert_memory_equal(got, data, len);
		assert_int_equal(s.v.conns[0]->done, len);
		/* Again, and the guest closes at once, and then resets: all of it arrives. */
		for (uint32_t i = 0; i < len; i += 0x10000)
			send_rw(&s, HOST_PORT, data + len + i, 0x10000);
		send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT_BOTH);
		while (receive(&s))
			assert_int_equal(s.h.op, OP(CREDIT_UPDATE));
		if (way == OWN)
			send_op(&s, HOST_PORT, OP(RST), 0);
		else if (way == LIMIT)
			bring_up(&s.g, 0);
		assert_int_equal(s.closed, 0);
		fd_close(&held);
		for (n = 0; n < len;) {
			uint32_t more = (uint32_t)read_all(p[0], got + n, 2 * len - n);
			assert_true(more > 0);
			n += more;
			guest_event(&s);
		}
		assert_int_equal(n, len);
		assert_memory_equal(got, data + len, len);
		assert_int_equal(s.closed, 1);
		assert_true(is_closed(p[0]));
		assert_int_equal(s.v.count, 0);
		fd_close(&p[0]);
		stop(&s);
	}
}

static void output_without_reader(void **state)
{
	struct guest s;
	int p[2];

	start(&s);
	/* It goes while nothing is written: told at once. */
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	connect_to(&s, p[1], VSOCK_FROM_GUEST);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	expect_quiet(&s);
	fd_close(&p[0]);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
	assert_int_equal(s.closed, 1);
	send_op(&s, HOST_PORT, OP(RST), 0);
	/* It goes while data waits. */
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	connect_to(&s, p[1], VSOCK_FROM_GUEST);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	for (int i = 0; i < 3; i++)
		send_rw(&s, HOST_PORT, NULL, 0x10000);
	assert_true(s.v.conns[0]->len > 0);
	fd_close(&p[0]);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
	assert_int_equal(s.h.fwd_cnt, 0x30000);
	assert_int_equal(s.closed, 2);
	send_op(&s, HOST_PORT, OP(RST), 0);
	/* It has gone before: /proc gives us no description, and the first event tells. */
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	fd_close(&p[0]);
	connect_to(&s, p[1], VSOCK_FROM_GUEST);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
	stop(&s);
}

static void raw_pty(int *ret_master, int *ret_slave)
{
	struct termios raw;

	assert_int_equal(openpty(ret_master, ret_slave, NULL, NULL, NULL), 0);
	assert_int_equal(tcgetattr(*ret_slave, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(*ret_slave, TCSANOW, &raw), 0);
}

/* A terminal passes things on in a kernel thread. */
static void await_event(struct guest *s)
{
	struct pollfd p = {s->v.dev.event_fd, POLLIN, 0};

	assert_int_equal(poll(&p, 1, 5000), 1);
}

/* Either side of a terminal is the stream's; the other one talks to it. */
static void terminal_side(bool is_master, enum way way)
{
	struct guest s;
	char text[16] = "";
	int ours, other;

	start(&s);
	raw_pty(is_master ? &ours : &other, is_master ? &other : &ours);
	int held = dup(ours);
	if (is_master)
		connect_to(&s, ours, VSOCK_BOTH);
	else
		connect_way(&s, way, ours, VSOCK_BOTH);
	expect_quiet(&s);
	assert_int_equal(write(other, "typed", 5), 5);
	await_event(&s);
	expect_data(&s, "typed");
	send_rw(&s, HOST_PORT, "shown", 5);
	for (int n = 0; n < 5;) { /* by bytes, where nothing else is sure not to wait */
		ssize_t r = read(other, text + n, sizeof(text) - (size_t)n);
		assert_true(r > 0);
		n += (int)r;
	}
	assert_string_equal(text, "shown");
	assert_int_equal(fcntl(held, F_GETFL) & O_NONBLOCK, 0);
	/* Nobody looks at it: what it does not take waits, and we don't. */
	_cleanup_free_ uint8_t *data = malloc(0x20000), *got = malloc(0x20000);
	fill_with_pattern(data, 0x20000);
	send_rw(&s, HOST_PORT, data, 0x10000);
	send_rw(&s, HOST_PORT, data + 0x10000, 0x10000);
	assert_true(s.v.conns[0]->len > 0);
	for (size_t n = 0, more; n < 0x20000; n += more) {
		struct pollfd p = {other, POLLIN, 0};
		assert_int_equal(poll(&p, 1, 1000), 1);
		more = read_all(other, got + n, 0x20000 - n);
		assert_memory_equal(got + n, data + n, more);
		guest_event(&s);
	}
	while (receive(&s))
		assert_int_equal(s.h.op, OP(CREDIT_UPDATE));
	fd_close(&other);
	await_event(&s);
	/* A master without a slave gives EIO, a slave without a master an end. */
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT_BOTH);
	expect(&s, OP(RST), HOST_PORT, 0);
	assert_int_equal(s.closed, 1);
	fd_close(&held);
	stop(&s);
}

static void terminals(void **state)
{
	unsigned before = open_fds();

	for (int way = 0; way < WAYS; way++)
		terminal_side(false, way);
	terminal_side(true, OWN);
	assert_int_equal(open_fds(), before);
}

/* A terminal that is open for both but stands for standard output must not be read. */
static void terminal_for_output(void **state)
{
	struct guest s;
	char text[16] = "";
	int master, slave;

	start(&s);
	raw_pty(&master, &slave);
	int held = dup(slave);
	connect_to(&s, slave, VSOCK_FROM_GUEST);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	assert_int_equal(write(master, "typed", 5), 5);
	expect_quiet(&s);
	send_rw(&s, HOST_PORT, "out", 3);
	assert_int_equal(read(master, text, sizeof(text)), 3);
	assert_int_equal(read(held, text, sizeof(text)), 5); /* still there for its reader */
	fd_close(&held);
	fd_close(&master);
	stop(&s);
}

static void files(void **state)
{
	struct guest s;
	char text[16] = "";
	uint8_t big[0x3000];

	start(&s);
	/* Output: the place in the file is shared with others, so it must be the same description.
	 */
	int file = memfd_create("out", MFD_CLOEXEC);
	assert_int_equal(write(file, "head:", 5), 5);
	connect_to(&s, dup(file), VSOCK_FROM_GUEST);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	send_rw(&s, HOST_PORT, "body", 4);
	assert_int_equal(lseek(file, 0, SEEK_CUR), 9);
	send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT_BOTH);
	expect(&s, OP(RST), HOST_PORT, 0);
	assert_int_equal(pread(file, text, sizeof(text), 0), 9);
	assert_string_equal(text, "head:body");
	/* Input, which is always ready, and ends. */
	fill_with_pattern(big, sizeof(big));
	assert_int_equal(pwrite(file, big, sizeof(big), 0), sizeof(big));
	lseek(file, 0, SEEK_SET);
	connect_to(&s, dup(file), VSOCK_TO_GUEST);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(RCV));
	size_t n = 0;
	while (receive(&s) == OP(RW)) {
		assert_memory_equal(s.data, big + n, s.h.len);
		n += s.h.len;
	}
	assert_int_equal(n, sizeof(big));
	assert_int_equal(s.h.op, OP(SHUTDOWN));
	assert_int_equal(s.h.flags, SHUT_BOTH);
	send_op(&s, HOST_PORT, OP(RST), 0);
	fd_close(&file);
	/* /dev/null takes everything, and is at its end. */
	connect_to(&s, open("/dev/null", O_RDWR | O_CLOEXEC), VSOCK_BOTH);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	for (int i = 0; i < 64; i++) {
		send_rw(&s, HOST_PORT, NULL, 0x10000);
		assert_int_equal(s.v.conns[0]->len, 0);
	}
	stop(&s);
}

/* What there is to write at the end of the machine. */
static void drained(void **state)
{
	struct guest s;
	int p[2], slow[2];

	start(&s);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	connect_to(&s, p[1], VSOCK_FROM_GUEST);
	expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	assert_int_equal(virtio_vsock_drain(&s.v, 0), 0);
	for (int i = 0; i < 3; i++)
		send_rw(&s, HOST_PORT, NULL, 0x10000);
	assert_int_equal(virtio_vsock_drain(&s.v, 20), -ETIMEDOUT);
	/* A packet that nobody was told of yet, and the guest's end. */
	struct virtio_vsock_hdr h = guest_header(HOST_PORT, OP(RW), 4);
	memcpy(at(&s.g, DATA, VSOCK_HEADER), &h, VSOCK_HEADER);
	memcpy(at(&s.g, DATA + VSOCK_HEADER, 4), "last", 4);
	put_desc(desc(&s.g, 1, 0), DATA, VSOCK_HEADER + 4, 0, 0);
	offer(&s.g, 1, 0);
	assert_int_equal(pipe2(slow, O_CLOEXEC), 0);
	pid_t reader = fork();
	if (reader == 0) {
		static char got[0x30004 + 1];
		size_t n = 0;
		fd_close(&p[1]);
		/* the device's own descriptor is in this process too: read what is expected */
		while (n < 0x30004) {
			ssize_t r = read(p[0], got + n, sizeof(got) - n);
			if (r <= 0)
				_exit(1);
			n += (size_t)r;
			usleep(1000);
		}
		_exit(memcmp(got + 0x30000, "last", 5) == 0 ? 0 : 2);
	}
	assert_int_equal(virtio_vsock_drain(&s.v, -1), 0);
	int status = -1;
	fd_close(&slow[0]);
	fd_close(&slow[1]);
	assert_int_equal(waitpid(reader, &status, 0), reader);
	assert_int_equal(status, 0);
	fd_close(&p[0]);
	stop(&s);
}

/* --- credit and buffers --- */

static void credit_of_guest(void **state)
{
	struct virtio_vsock_hdr h = guest_header(HOST_PORT, OP(REQUEST), 0);
	struct guest s;
	int pair[2], left;
	char text[64] = "";

	start(&s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(write(pair[1], "0123456789abcdefghij", 20), 20);
	h.buf_alloc = 8;
	s.next_fd = dup(pair[0]);
	guest_send_raw(&s, &h, NULL, 0);
	expect(&s, OP(RESPONSE), HOST_PORT, 0);
	expect_data(&s, "01234567");
	expect(&s, OP(CREDIT_REQUEST), HOST_PORT, 0);
	expect_quiet(&s);
	assert_int_equal(ioctl(pair[0], FIONREAD, &left), 0);
	assert_int_equal(left, 12);
	/* An answer that gives none is not asked again. */
	h.op = OP(CREDIT_UPDATE);
	guest_send_raw(&s, &h, NULL, 0);
	expect_quiet(&s);
	h.fwd_cnt = 3;
	guest_send_raw(&s, &h, NULL, 0);
	expect_data(&s, "89a");
	expect(&s, OP(CREDIT_REQUEST), HOST_PORT, 0);
	/* Lies: more taken than was sent, less room than is on the way. */
	h.fwd_cnt = 12;
	guest_send_raw(&s, &h, NULL, 0);
	h.fwd_cnt = UINT32_MAX;
	guest_send_raw(&s, &h, NULL, 0);
	h.fwd_cnt = 3;
	h.buf_alloc = 0;
	guest_send_raw(&s, &h, NULL, 0);
	expect_quiet(&s);
	h.fwd_cnt = 11;
	h.buf_alloc = UINT32_MAX;
	guest_send_raw(&s, &h, NULL, 0);
	expect_data(&s, "bcdefghij");
	send_op(&s, HOST_PORT, OP(CREDIT_REQUEST), 0);
	expect(&s, OP(CREDIT_UPDATE), HOST_PORT, 0);
	assert_int_equal(s.h.buf_alloc, VSOCK_CREDIT);
	expect_quiet(&s);
	/* Its data beyond what we have room for. */
	send_rw(&s, HOST_PORT, "ok", 2);
	while (s.v.count > 0 && s.v.conns[0]->len < VSOCK_CREDIT - 0x10000)
		send_rw(&s, HOST_PORT, NULL, 0x10000);
	send_rw(&s, HOST_PORT, NULL, 0x20000);
	while (receive(&s) == OP(CREDIT_UPDATE))
		;
	assert_int_equal(s.h.op, OP(RST));
	assert_int_equal(read(pair[1], text, 2), 2); /* what was right is not lost */
	assert_string_equal(text, "ok");
	fd_close(&pair[0]);
	fd_close(&pair[1]);
	stop(&s);
}

/* The receive buffer whose offer the device wants to be told of (avail_event, 2.7.10). */
static unsigned wanted_kick(struct guest *s)
{
	uint16_t index;

	memcpy(&index, &used(&s->g, 0)->ring[s->g.size], sizeof(index));
	return index;
}

/* Nothing is read from a descriptor, and nothing spins, while the guest has no room. */
static void no_buffers(void **state)
{
	struct guest s;
	int pair[2], left, features;

	for (features = 0; features < 2; features++) {
		guest_start(&s, 8, features ? EVENT : 0);
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		assert_int_equal(write(pair[1], "data", 4), 4);
		s.next_fd = dup(pair[0]);
		send_op(&s, HOST_PORT, OP(REQUEST), 0);
		expect_quiet(&s);
		guest_offer(&s, 0, VSOCK_HEADER + 2);
		guest_offer(&s, 1, VSOCK_HEADER + 2);
		/* The device has asked for this kick. */
		if (features)
			assert_int_equal(wanted_kick(&s), 0);
		kick(&s.g, 0);
		assert_int_equal(used(&s.g, 0)->idx, 2);
		assert_int_equal(ioctl(pair[0], FIONREAD, &left), 0);
		assert_int_equal(left, 2);
		if (features)
			assert_int_equal(wanted_kick(&s), 2);
		expect(&s, OP(RESPONSE), HOST_PORT, 0);
		s.seen++;
		avail(&s.g, 0)->idx -= 1; /* take back what expect() offered */
		struct pollfd p = {s.v.dev.event_fd, POLLIN, 0};
		guest_event(&s);
		assert_int_equal(poll(&p, 1, 0), 0);
		assert_int_equal(write(pair[1], "more", 4), 4);
		for (int i = 0; i < 3; i++)
			guest_event(&s);
		assert_int_equal(poll(&p, 1, 0), 0);
		guest_offer(&s, 0, VSOCK_HEADER + 100);
		kick(&s.g, 0);
		assert_int_equal(receive(&s), OP(RW));
		assert_string_equal((char *)s.data, "tamore");
		fd_close(&pair[0]);
		fd_close(&pair[1]);
		stop(&s);
	}
}

static void large_transfers(void **state)
{
	const size_t len = 0x20000;
	_cleanup_free_ uint8_t *data = malloc(len), *got = malloc(len);
	struct guest s;
	int pair[2];
	size_t n = 0, packets = 0;

	fill_with_pattern(data, len);
	start(&s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(write(pair[1], data, len), len);
	connect_to(&s, pair[0], VSOCK_BOTH);
	while (receive(&s) == OP(RW)) {
		memcpy(got + n, s.data, s.h.len);
		n += s.h.len;
		packets++;
	}
	assert_int_equal(n, len);
	assert_memory_equal(got, data, len);
	assert_int_equal(packets, len / 4096); /* full ones */
	/* One of 64 KiB, where the guest has such a buffer. */
	bring_up(&s.g, 0);
	s.seen = 0;
	fd_close(&pair[1]);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(write(pair[1], data, 0x10000), 0x10000);
	guest_offer(&s, 0, VSOCK_HEADER);
	put_desc(desc(&s.g, 0, 0), RX_AT(0), VSOCK_HEADER + 1, WRITE, 0);
	guest_offer(&s, 1, VSOCK_HEADER + 0x10000);
	s.next_fd = pair[0];
	send_op(&s, HOST_PORT, OP(REQUEST), 0);
	expect(&s, OP(RESPONSE), HOST_PORT, 0);
	expect(&s, OP(RW), HOST_PORT, 0);
	assert_int_equal(s.h.len, 0x10000);
	assert_memory_equal(s.data, data, 0x10000);
	fd_close(&pair[1]);
	stop(&s);
}

/* Two that never end get the same share. */
static void fairness(void **state)
{
	struct guest s;
	unsigned got[2] = {0};

	start(&s);
	for (uint32_t i = 0; i < 2; i++) {
		s.next_fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
		send_op(&s, HOST_PORT + i, OP(REQUEST), 0);
	}
	for (int i = 0; i < 4000; i++) {
		assert_int_not_equal(receive(&s), 0);
		kick(&s.g, 0);
		got[s.h.src_port - HOST_PORT]++;
	}
	assert_in_range(got[0], 1500, 2500);
	stop(&s);
}

static void many_connections(void **state)
{
	unsigned before = open_fds(), accepted = 0, refused = 0, large = 0;
	struct guest s;

	start(&s);
	for (uint32_t i = 0; i < 300; i++) {
		fd_close(&s.next_fd);
		s.next_fd = memfd_create("one", MFD_CLOEXEC);
		send_op(&s, 10000 + i, OP(REQUEST), 0);
		for (int op; (op = receive(&s));) {
			assert_int_equal(s.h.src_port, 10000 + i);
			accepted += op == OP(RESPONSE);
			refused += op == OP(RST);
			large += op == OP(RESPONSE) && s.h.buf_alloc == VSOCK_CREDIT;
		}
	}
	assert_int_equal(accepted, VSOCK_CONNS_MAX);
	assert_int_equal(refused, 300 - VSOCK_CONNS_MAX);
	assert_int_equal(large, VSOCK_LARGE_MAX);
	assert_int_equal(s.connects, VSOCK_CONNS_MAX);
	assert_int_equal(virtio_vsock_dial(&s.v, 1, dup(1), VSOCK_BOTH), -EBUSY);
	for (uint32_t i = 0; i < VSOCK_CONNS_MAX; i += 2)
		send_op(&s, 10000 + i, OP(RST), 0);
	assert_int_equal(s.v.count, VSOCK_CONNS_MAX / 2);
	fd_close(&s.next_fd);
	s.next_fd = memfd_create("one", MFD_CLOEXEC);
	send_op(&s, 7, OP(REQUEST), 0);
	expect(&s, OP(RESPONSE), 7, 0);
	set(&s.g, VIRTIO_MMIO_STATUS, 0);
	assert_int_equal(s.v.count, 0);
	assert_int_equal(s.closed, VSOCK_CONNS_MAX + 1);
	stop(&s);
	assert_int_equal(open_fds(), before);
}

/* --- guests that lie --- */

static void unknown_connections(void **state)
{
	struct guest s;
	struct virtio_vsock_hdr h;

	start(&s);
	for (uint16_t op = 0; op < 20; op++) {
		send_op(&s, HOST_PORT, op, 3);
		if (op == OP(RST))
			expect_quiet(&s);
		else
			expect(&s, OP(RST), HOST_PORT, 0);
	}
	assert_int_equal(s.connects, 1); /* and refused by its owner */
	/* To somebody else: reset in that one's name. From somebody else: nothing at all. */
	h = guest_header(HOST_PORT, OP(REQUEST), 0);
	h.dst_cid = 99;
	guest_send_raw(&s, &h, NULL, 0);
	assert_int_equal(((struct virtio_vsock_hdr *)at(&s.g, RX_AT(19), 44))->src_cid, 99);
	assert_int_equal(((struct virtio_vsock_hdr *)at(&s.g, RX_AT(19), 44))->op, OP(RST));
	s.seen++;
	h.dst_cid = VSOCK_HOST_CID;
	h.src_cid = 1ULL << 32 | GUEST_CID;
	guest_send_raw(&s, &h, NULL, 0);
	h.src_cid = VSOCK_HOST_CID;
	guest_send_raw(&s, &h, NULL, 0);
	expect_quiet(&s);
	/* A type that was not offered is reset in kind. */
	h = guest_header(HOST_PORT, OP(REQUEST), 0);
	h.type = VIRTIO_VSOCK_TYPE_SEQPACKET;
	guest_send_raw(&s, &h, NULL, 0);
	assert_int_equal(((struct virtio_vsock_hdr *)at(&s.g, RX_AT(20), 44))->type, 2);
	assert_int_equal(s.connects, 1);
	assert_false(is_broken(&s.g));
	stop(&s);
}

static void wrong_for_connection(void **state)
{
	static const uint16_t ops[] = {0, OP(REQUEST), OP(RESPONSE), 8, 0xffff};
	struct guest s;
	int pair[2];

	start(&s);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		connect_to(&s, pair[0], VSOCK_BOTH);
		send_op(&s, HOST_PORT, ops[i], UINT32_MAX);
		expect(&s, OP(RST), HOST_PORT, 0);
		assert_true(is_closed(pair[1]));
		assert_int_equal(s.v.count, 0);
		fd_close(&pair[1]);
	}
	/* All flags of a shutdown, none, and data after it. */
	for (uint32_t flags = 0; flags < 16; flags++) {
		uint32_t known = flags & SHUT_BOTH;
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
		connect_to(&s, pair[0], VSOCK_BOTH);
		send_op(&s, HOST_PORT, OP(SHUTDOWN), flags);
		send_rw(&s, HOST_PORT, "late", 4);
		if (known == SHUT_BOTH)
			expect(&s, OP(RST), HOST_PORT, 0);
		if (known == SHUT(RCV))
			expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
		char text[8];
		ssize_t want = known & SHUT(SEND) ? 0 : 4;
		assert_int_equal(recv(pair[1], text, 8, MSG_DONTWAIT), want);
		if (known == SHUT_BOTH) /* it is not known any more */
			expect(&s, OP(RST), HOST_PORT, 0);
		send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT_BOTH);
		expect(&s, OP(RST), HOST_PORT, 0);
		fd_close(&pair[1]);
		expect_quiet(&s);
	}
	stop(&s);
}

static void bad_lengths(void **state)
{
	static const uint32_t lies[] = {11, 12, 0x10000, 0x7fffffff, UINT32_MAX - 43, UINT32_MAX};
	struct guest s;
	struct virtio_vsock_hdr h = guest_header(HOST_PORT, OP(RW), 0);

	start(&s);
	for (size_t i = 0; i < ARRAY_SIZE(lies); i++) {
		h.len = lies[i]; /* of 10 (CVE-2019-18960) */
		guest_send_raw(&s, &h, "0123456789", 10);
		assert_true(is_broken(&s.g));
		assert_non_null(
			strstr(s.v.dev.broken, "vsock: queue 1: a packet that says it has"));
		bring_up(&s.g, 0);
	}
	for (uint32_t len = 0; len < VSOCK_HEADER; len += 43) {
		put_desc(desc(&s.g, 1, 0), DATA, len, 0, 0);
		offer(&s.g, 1, 0);
		kick(&s.g, 1);
		assert_non_null(strstr(s.v.dev.broken, "expected 44 or more"));
		bring_up(&s.g, 0);
	}
	put_desc(desc(&s.g, 1, 0), DATA, 0x100, NEXT, 1);
	put_desc(desc(&s.g, 1, 1), DATA, 0x100, WRITE, 0);
	offer(&s.g, 1, 0);
	kick(&s.g, 1);
	assert_true(is_broken(&s.g));
	/* Receive buffers: readable, none, too small, and just a header. Looked at when needed. */
	for (uint32_t i = 0; i < 4; i++) {
		static const uint32_t sizes[] = {100, 0, 43, 44};
		bring_up(&s.g, 0);
		put_desc(desc(&s.g, 0, 0), RX_AT(0), sizes[i], i ? WRITE : 0, 0);
		offer(&s.g, 0, 0);
		kick(&s.g, 0);
		assert_false(is_broken(&s.g));
		send_op(&s, HOST_PORT, OP(RW), 0);
		assert_true(is_broken(&s.g));
		assert_non_null(strstr(s.v.dev.broken, "vsock: queue 0: a receive buffer with"));
		assert_int_equal(used(&s.g, 0)->idx, 0);
	}
	stop(&s);
}

/* Header and data cut anywhere, in both directions (2.7.4). */
static void layouts(void **state)
{
	static const uint32_t cuts[] = {1, 7, 0, 30, 5, 1, 4, 6};
	struct virtio_vsock_hdr h = guest_header(HOST_PORT, OP(RW), 10);
	struct guest s;
	char text[16] = "";
	int pair[2];

	start(&s);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	connect_to(&s, pair[0], VSOCK_BOTH);
	memcpy(at(&s.g, DATA, VSOCK_HEADER), &h, VSOCK_HEADER);
	memcpy(at(&s.g, DATA + VSOCK_HEADER, 10), "0123456789", 10);
	uint64_t where = DATA;
	for (unsigned i = 0; i < ARRAY_SIZE(cuts); i++) {
		put_desc(desc(&s.g, 1, i), where, cuts[i], i < ARRAY_SIZE(cuts) - 1 ? NEXT : 0,
			i + 1);
		where += cuts[i];
	}
	offer(&s.g, 1, 0);
	kick(&s.g, 1);
	assert_int_equal(read(pair[1], text, sizeof(text)), 10);
	assert_string_equal(text, "0123456789");
	bring_up(&s.g, 0);
	assert_true(is_closed(pair[1]));
	fd_close(&pair[1]);
	/* To the guest: each byte of the header has its own descriptor. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	s.next_fd = pair[0];
	guest_offer(&s, 63, 100);
	send_op(&s, HOST_PORT, OP(REQUEST), 0);
	for (unsigned i = 0; i < 50; i++)
		put_desc(desc(&s.g, 0, i), RX_AT(0) + i, i == 49 ? 100 : 1,
			WRITE | (i < 49 ? NEXT : 0), i + 1);
	offer(&s.g, 0, 0);
	assert_int_equal(write(pair[1], "0123456789", 10), 10);
	guest_event(&s);
	assert_int_equal(used(&s.g, 0)->idx, 2);
	assert_int_equal(used(&s.g, 0)->ring[1].len, VSOCK_HEADER + 10);
	memcpy(&h, at(&s.g, RX_AT(0), VSOCK_HEADER), VSOCK_HEADER);
	assert_int_equal(h.op, OP(RW));
	assert_int_equal(h.len, 10);
	assert_memory_equal(at(&s.g, RX_AT(0) + VSOCK_HEADER, 10), "0123456789", 10);
	fd_close(&pair[1]);
	stop(&s);
}

/* Resets that find no receive buffer hold up the queue, take bounded memory, and are not lost. */
static void flood(void **state)
{
	struct virtio_vsock_hdr h;
	struct guest s;
	unsigned sent = 0, answers = 0;

	guest_start(&s, 256, 0);
	for (; sent < 200; sent++) {
		h = guest_header(sent, OP(RW), 0);
		guest_send_raw(&s, &h, NULL, 0);
	}
	assert_int_equal(used(&s.g, 1)->idx, VSOCK_RESETS_MAX);
	expect_quiet(&s);
	for (int i = 0; i < 20; i++) {
		for (unsigned j = 0; j < 10; j++)
			guest_offer(&s, (unsigned)i * 10 + j, VSOCK_HEADER + 4);
		kick(&s.g, 0);
		for (int j = 0; j < 3; j++)
			guest_event(&s);
		answers = used(&s.g, 0)->idx;
		assert_int_equal(answers, (i + 1) * 10);
	}
	assert_int_equal(used(&s.g, 1)->idx, 200);
	assert_false(is_broken(&s.g));
	stop(&s);
}

static void refused_options(void **state)
{
	static const uint64_t cids[] = {0, 1, 2, UINT32_MAX, 1ULL << 32, UINT64_MAX};
	struct virtio_vsock v;
	struct rig g;

	rig_memory(&g);
	for (size_t i = 0; i < ARRAY_SIZE(cids); i++) {
		struct virtio_vsock_options o = {.cid = cids[i], .connect = guest_connect};
		assert_int_equal(virtio_vsock_init(&v, &g.memory, &o), -EINVAL);
		assert_non_null(strstr(err_msg(), "expected 3 to 4294967294"));
	}
	vm_memory_release(&g.memory);
	/* A descriptor that is open for nothing of what is wanted. */
	struct guest s;
	int p[2];
	start(&s);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	s.next_fd = p[0];
	s.next_use = VSOCK_FROM_GUEST;
	send_op(&s, HOST_PORT, OP(REQUEST), 0);
	expect(&s, OP(RST), HOST_PORT, 0);
	assert_int_equal(s.closed, 1);
	assert_int_equal(write(p[1], "x", 1), -1);
	fd_close(&p[1]);
	stop(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(socket_stream),
		cmocka_unit_test(guest_closes),
		cmocka_unit_test(dialed),
		cmocka_unit_test(input_pipe),
		cmocka_unit_test(input_unwanted),
		cmocka_unit_test(output_pipe),
		cmocka_unit_test(output_without_reader),
		cmocka_unit_test(terminals),
		cmocka_unit_test(terminal_for_output),
		cmocka_unit_test(files),
		cmocka_unit_test(drained),
		cmocka_unit_test(credit_of_guest),
		cmocka_unit_test(no_buffers),
		cmocka_unit_test(large_transfers),
		cmocka_unit_test(fairness),
		cmocka_unit_test(many_connections),
		cmocka_unit_test(unknown_connections),
		cmocka_unit_test(wrong_for_connection),
		cmocka_unit_test(bad_lengths),
		cmocka_unit_test(layouts),
		cmocka_unit_test(flood),
		cmocka_unit_test(refused_options),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
