/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the vsock device behind the mmio transport: every kind of descriptor, both directions, and
 * how streams end. The tests use plain memory and no KVM.
 */
#include "unit/rig/descriptors.h"
#include "unit/rig/vsock_peer.h"

#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

/*
 * The ways in which the device avoids blocking when it reads and writes a stream. OWN: the device
 * opens a file description of its own, which does not block. LIMIT: the device may open no files,
 * so it uses the caller's file description. POLLED: as LIMIT, but the device calls poll(2) first.
 */
enum way { OWN, LIMIT, POLLED, WAYS };

static void connect_way(struct guest *s, enum way way, int fd, unsigned use)
{
	struct rlimit old, none;

	getrlimit(RLIMIT_NOFILE, &old);
	none = (struct rlimit){0, old.rlim_max};
	if (way != OWN)
		setrlimit(RLIMIT_NOFILE, &none);
	guest_connect_to(s, fd, use);
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

		guest_begin(&s);
		assert_int_equal(pipe2(p, O_CLOEXEC), 0);
		/*
		 * The test keeps a copy of the descriptor that it gives to the device, as the
		 * parent process of the runtime does. The device must therefore not set O_NONBLOCK,
		 * which all copies share.
		 */
		int held = dup(p[0]);
		connect_way(&s, way, p[0], VSOCK_BOTH);
		/*
		 * The device must tell the guest not to send, because it cannot write to this pipe.
		 */
		guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(RCV));
		/* The device must not block in a read, although the pipe is empty. */
		guest_expect_quiet(&s);
		assert_int_equal(write(p[1], "one", 3), 3);
		guest_expect_data(&s, "one");
		assert_int_equal(write(p[1], "two", 3), 3);
		guest_expect_data(&s, "two");
		guest_expect_quiet(&s);
		assert_int_equal(fcntl(held, F_GETFL) & O_NONBLOCK, 0);
		/* The guest was told not to send, so the device must drop this data. */
		guest_send_data(&s, HOST_PORT, "x", 1);
		assert_int_equal(write(p[1], "three", 5), 5);
		fd_close(&p[1]);
		guest_expect_data(&s, "three");
		guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
		assert_int_equal(s.closed, 1);
		guest_send_op(&s, HOST_PORT, OP(RST), 0);
		fd_close(&held);
		guest_expect_quiet(&s);
		guest_end(&s);
	}
}

/*
 * Checks virtio_vsock_hold(), which a snapshot needs: as long as it holds the streams, the device
 * must read input for the guest only from one port, and must still write the guest's output.
 */
static void held_input(void **state)
{
	struct guest s;
	int p[2], q[2];

	guest_begin(&s);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	guest_connect_to(&s, p[0], VSOCK_TO_GUEST);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(RCV));
	virtio_vsock_hold(&s.v, true, HOST_PORT + 1);
	assert_int_equal(write(p[1], "one", 3), 3);
	guest_event(&s);
	assert_int_equal(guest_receive(&s), 0);
	virtio_vsock_hold(&s.v, true, HOST_PORT);
	guest_expect_data(&s, "one");
	virtio_vsock_hold(&s.v, true, HOST_PORT + 1);
	assert_int_equal(write(p[1], "two", 3), 3);
	guest_event(&s);
	assert_int_equal(guest_receive(&s), 0);
	virtio_vsock_hold(&s.v, false, 0);
	guest_expect_data(&s, "two");
	fd_close(&p[1]);
	guest_end(&s);
	guest_begin(&s);
	assert_int_equal(pipe2(q, O_CLOEXEC), 0);
	guest_connect_to(&s, q[1], VSOCK_FROM_GUEST);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	virtio_vsock_hold(&s.v, true, HOST_PORT + 1);
	guest_send_data(&s, HOST_PORT, "out", 3);
	char out[4] = {0};
	assert_int_equal(read(q[0], out, 3), 3);
	assert_string_equal(out, "out");
	fd_close(&q[0]);
	guest_end(&s);
}

static void input_unwanted(void **state)
{
	struct guest s;
	int p[2];

	guest_begin(&s);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	guest_connect_to(&s, p[0], VSOCK_TO_GUEST);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(RCV));
	guest_send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT(RCV));
	assert_int_equal(write(p[1], "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
	fd_close(&p[1]);
	guest_end(&s);
}

/*
 * Checks a guest that sends more than the pipe can take: the device keeps the data within the
 * credit and delivers it in order, whatever the guest does.
 */
static void output_pipe(void **state)
{
	const uint32_t len = VSOCK_CREDIT;
	_cleanup_free_ uint8_t *data = malloc(2 * len), *got = malloc(2 * len);

	fill_with_pattern(data, 2 * len);
	for (int way = 0; way < WAYS; way++) {
		struct guest s;
		int p[2];

		guest_begin(&s);
		assert_int_equal(pipe2(p, O_CLOEXEC), 0);
		int held = dup(p[1]);
		connect_way(&s, way, p[1], VSOCK_BOTH);
		guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
		for (uint32_t i = 0; i < len; i += 0x10000)
			guest_send_data(&s, HOST_PORT, data + i, 0x10000);
		uint32_t kept = s.v.conns[0]->len;
		assert_true(kept >= len - 0x10000 && kept < len);
		guest_expect_quiet(&s);
		uint32_t n = (uint32_t)read_available(p[0], got, 0x4000);
		while (n < len) {
			guest_event(&s);
			n += (uint32_t)read_available(p[0], got + n, len - n);
		}
		guest_expect(&s, OP(CREDIT_UPDATE), HOST_PORT, 0);
		assert_memory_equal(got, data, len);
		assert_int_equal(s.v.conns[0]->done, len);
		/*
		 * The guest closes the stream right after its data, and then resets the connection,
		 * resets the device, or does nothing more. In each case the device must still write
		 * all the data to the pipe.
		 */
		for (uint32_t i = 0; i < len; i += 0x10000)
			guest_send_data(&s, HOST_PORT, data + len + i, 0x10000);
		guest_send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT_BOTH);
		while (guest_receive(&s))
			assert_int_equal(s.h.op, OP(CREDIT_UPDATE));
		if (way == OWN)
			guest_send_op(&s, HOST_PORT, OP(RST), 0);
		else if (way == LIMIT)
			bring_up(&s.g, 0);
		assert_int_equal(s.closed, 0);
		fd_close(&held);
		for (n = 0; n < len;) {
			uint32_t more = (uint32_t)read_available(p[0], got + n, 2 * len - n);
			assert_true(more > 0);
			n += more;
			guest_event(&s);
		}
		assert_int_equal(n, len);
		assert_memory_equal(got, data + len, len);
		assert_int_equal(s.closed, 1);
		assert_true(is_hung_up(p[0]));
		assert_int_equal(s.v.count, 0);
		fd_close(&p[0]);
		guest_end(&s);
	}
}

static void output_without_reader(void **state)
{
	struct guest s;
	int p[2];

	guest_begin(&s);
	/*
	 * The reader closes the pipe while the device holds no data for it. The device must tell
	 * the guest at once.
	 */
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	guest_connect_to(&s, p[1], VSOCK_FROM_GUEST);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	guest_expect_quiet(&s);
	fd_close(&p[0]);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
	assert_int_equal(s.closed, 1);
	guest_send_op(&s, HOST_PORT, OP(RST), 0);
	/*
	 * The reader closes the pipe while the device holds data for it. The device must drop the
	 * data and tell the guest.
	 */
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	guest_connect_to(&s, p[1], VSOCK_FROM_GUEST);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	for (int i = 0; i < 3; i++)
		guest_send_data(&s, HOST_PORT, NULL, 0x10000);
	assert_true(s.v.conns[0]->len > 0);
	fd_close(&p[0]);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
	assert_int_equal(s.h.fwd_cnt, 0x30000);
	assert_int_equal(s.closed, 2);
	guest_send_op(&s, HOST_PORT, OP(RST), 0);
	/*
	 * The reader has closed the pipe before the guest connects, so that the device can open no
	 * file description of its own by /proc. The first event must show the device that the
	 * reader has gone.
	 */
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	fd_close(&p[0]);
	guest_connect_to(&s, p[1], VSOCK_FROM_GUEST);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT_BOTH);
	guest_end(&s);
}

static void raw_pty(int *ret_master, int *ret_slave)
{
	struct termios raw;

	assert_int_equal(openpty(ret_master, ret_slave, NULL, NULL, NULL), 0);
	assert_int_equal(tcgetattr(*ret_slave, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(*ret_slave, TCSANOW, &raw), 0);
}

/*
 * Waits until the device's event_fd is readable. What the test writes to one side of a terminal is
 * not readable on the other side at once, because a kernel thread passes it on.
 */
static void await_event(struct guest *s)
{
	struct pollfd p = {s->v.dev.event_fd, POLLIN, 0};

	assert_int_equal(poll(&p, 1, 5000), 1);
}

/*
 * Tests a stream of the guest that is one side of a terminal, its master or its slave. The test
 * uses the terminal's other side.
 */
static void terminal_side(bool is_master, enum way way)
{
	struct guest s;
	char text[16] = "";
	int ours, other;

	guest_begin(&s);
	raw_pty(is_master ? &ours : &other, is_master ? &other : &ours);
	int held = dup(ours);
	if (is_master)
		guest_connect_to(&s, ours, VSOCK_BOTH);
	else
		connect_way(&s, way, ours, VSOCK_BOTH);
	guest_expect_quiet(&s);
	assert_int_equal(write(other, "typed", 5), 5);
	await_event(&s);
	guest_expect_data(&s, "typed");
	guest_send_data(&s, HOST_PORT, "shown", 5);
	/*
	 * In the mode POLLED the device writes single bytes to the terminal, so that a write does
	 * not block. The test must therefore read until it has all five bytes.
	 */
	for (int n = 0; n < 5;) {
		ssize_t r = read(other, text + n, sizeof(text) - (size_t)n);
		assert_true(r > 0);
		n += (int)r;
	}
	assert_string_equal(text, "shown");
	assert_int_equal(fcntl(held, F_GETFL) & O_NONBLOCK, 0);
	/*
	 * The test does not read from the terminal. The device must keep the data that the terminal
	 * does not take, and must not wait for the terminal.
	 */
	_cleanup_free_ uint8_t *data = malloc(0x20000), *got = malloc(0x20000);
	fill_with_pattern(data, 0x20000);
	guest_send_data(&s, HOST_PORT, data, 0x10000);
	guest_send_data(&s, HOST_PORT, data + 0x10000, 0x10000);
	assert_true(s.v.conns[0]->len > 0);
	for (size_t n = 0, more; n < 0x20000; n += more) {
		struct pollfd p = {other, POLLIN, 0};
		assert_int_equal(poll(&p, 1, 1000), 1);
		more = read_available(other, got + n, 0x20000 - n);
		assert_memory_equal(got + n, data + n, more);
		guest_event(&s);
	}
	while (guest_receive(&s))
		assert_int_equal(s.h.op, OP(CREDIT_UPDATE));
	fd_close(&other);
	await_event(&s);
	/*
	 * The device must tell the guest the end of the input in both cases: reading from a
	 * terminal's master whose slave is closed gives EIO, and reading from a slave whose master
	 * is closed gives the end of the input.
	 */
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	guest_send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT_BOTH);
	guest_expect(&s, OP(RST), HOST_PORT, 0);
	assert_int_equal(s.closed, 1);
	fd_close(&held);
	guest_end(&s);
}

static void terminals(void **state)
{
	unsigned before = descriptors_below(4096);

	for (int way = 0; way < WAYS; way++)
		terminal_side(false, way);
	terminal_side(true, OWN);
	assert_int_equal(descriptors_below(4096), before);
}

/*
 * Checks a terminal that is open for reading and writing but serves as standard output: the device
 * must not read from it.
 */
static void terminal_for_output(void **state)
{
	struct guest s;
	char text[16] = "";
	int master, slave;

	guest_begin(&s);
	raw_pty(&master, &slave);
	int held = dup(slave);
	guest_connect_to(&s, slave, VSOCK_FROM_GUEST);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	assert_int_equal(write(master, "typed", 5), 5);
	guest_expect_quiet(&s);
	guest_send_data(&s, HOST_PORT, "out", 3);
	assert_int_equal(read(master, text, sizeof(text)), 3);
	/* The device must have left the bytes in the terminal for another process. */
	assert_int_equal(read(held, text, sizeof(text)), 5);
	fd_close(&held);
	fd_close(&master);
	guest_end(&s);
}

static void regular_files(void **state)
{
	struct guest s;
	char text[16] = "";
	uint8_t big[0x3000];

	guest_begin(&s);
	/*
	 * Tests output to a file. Other processes write to the file through the same file
	 * description, so the device must write through it too, at its position.
	 */
	int file = memfd_create("out", MFD_CLOEXEC);
	assert_int_equal(write(file, "head:", 5), 5);
	guest_connect_to(&s, dup(file), VSOCK_FROM_GUEST);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	guest_send_data(&s, HOST_PORT, "body", 4);
	assert_int_equal(lseek(file, 0, SEEK_CUR), 9);
	guest_send_op(&s, HOST_PORT, OP(SHUTDOWN), SHUT_BOTH);
	guest_expect(&s, OP(RST), HOST_PORT, 0);
	assert_int_equal(pread(file, text, sizeof(text), 0), 9);
	assert_string_equal(text, "head:body");
	/* Tests input from a file, which poll(2) always calls readable, and which has an end. */
	fill_with_pattern(big, sizeof(big));
	assert_int_equal(pwrite(file, big, sizeof(big), 0), sizeof(big));
	lseek(file, 0, SEEK_SET);
	guest_connect_to(&s, dup(file), VSOCK_TO_GUEST);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(RCV));
	size_t n = 0;
	while (guest_receive(&s) == OP(RW)) {
		assert_memory_equal(s.data, big + n, s.h.len);
		n += s.h.len;
	}
	assert_int_equal(n, sizeof(big));
	assert_int_equal(s.h.op, OP(SHUTDOWN));
	assert_int_equal(s.h.flags, SHUT_BOTH);
	guest_send_op(&s, HOST_PORT, OP(RST), 0);
	fd_close(&file);
	/* Tests /dev/null, which takes all output, and whose input is at its end at once. */
	guest_connect_to(&s, open("/dev/null", O_RDWR | O_CLOEXEC), VSOCK_BOTH);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	for (int i = 0; i < 64; i++) {
		guest_send_data(&s, HOST_PORT, NULL, 0x10000);
		assert_int_equal(s.v.conns[0]->len, 0);
	}
	guest_end(&s);
}

/*
 * Checks that the device writes data that it still holds when the machine ends to the stream's
 * descriptor, in whichever way the device learns of the machine's end.
 */
enum end { END_UNSEEN, END_RESET, END_QUIESCE, ENDS };

static void drained_after(enum end end)
{
	struct guest s;
	int p[2];

	guest_begin(&s);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	guest_connect_to(&s, p[1], VSOCK_FROM_GUEST);
	guest_expect(&s, OP(SHUTDOWN), HOST_PORT, SHUT(SEND));
	assert_int_equal(virtio_vsock_drain(&s.v, 0), 0);
	for (int i = 0; i < 3; i++)
		guest_send_data(&s, HOST_PORT, NULL, 0x10000);
	assert_int_equal(virtio_vsock_drain(&s.v, 20), -ETIMEDOUT);
	/*
	 * At its end the guest has a packet in the queue for which it has sent no kick. The device
	 * must write this packet's data too.
	 */
	struct virtio_vsock_hdr h = guest_header(HOST_PORT, OP(RW), 4);
	memcpy(at(&s.g, DATA, VSOCK_HEADER), &h, VSOCK_HEADER);
	memcpy(at(&s.g, DATA + VSOCK_HEADER, 4), "last", 4);
	put_desc(desc(&s.g, 1, 0), DATA, VSOCK_HEADER + 4, 0, 0);
	offer(&s.g, 1, 0);
	pid_t reader = fork();
	if (reader == 0) {
		static char got[0x30004 + 1];
		size_t n = 0;
		fd_close(&p[1]);
		/*
		 * The test reads until it has a fixed number of bytes. It would wait for ever for
		 * the end of the data, because it has the device's end of the pipe open itself.
		 */
		while (n < 0x30004) {
			ssize_t r = read(p[0], got + n, sizeof(got) - n);
			if (r <= 0)
				_exit(1);
			n += (size_t)r;
			usleep(1000);
		}
		_exit(memcmp(got + 0x30000, "last", 5) == 0 ? 0 : 2);
	}
	if (end == END_RESET)
		bring_up(&s.g, 0);
	else if (end == END_QUIESCE)
		s.v.dev.ops->quiesce(&s.v.dev, 1);
	assert_int_equal(virtio_vsock_drain(&s.v, -1), 0);
	int status = -1;
	assert_int_equal(waitpid(reader, &status, 0), reader);
	assert_int_equal(status, 0);
	fd_close(&p[0]);
	guest_end(&s);
}

static void output_is_written_at_the_end(void **state)
{
	for (int end = 0; end < ENDS; end++)
		drained_after(end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(input_pipe),
		cmocka_unit_test(held_input),
		cmocka_unit_test(input_unwanted),
		cmocka_unit_test(output_pipe),
		cmocka_unit_test(output_without_reader),
		cmocka_unit_test(terminals),
		cmocka_unit_test(terminal_for_output),
		cmocka_unit_test(regular_files),
		cmocka_unit_test(output_is_written_at_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
