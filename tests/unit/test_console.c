/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the console of a guest that has no agent of caisson: which part of the guest's output each
 * viewer gets, and what happens if a viewer reads slowly.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "monitor/console.h"

/*
 * Attaches a viewer to the console by a socket pair that does not block. Returns the test's end of
 * the pair.
 */
static int attach(struct console *c)
{
	int socks[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, socks), 0);
	assert_int_equal(console_attach(c, socks[1]), 0);
	return socks[0];
}

static int turn(struct console *c)
{
	struct pollfd p[CONSOLE_FDS];

	console_poll(c, p);
	int n = poll(p, CONSOLE_FDS, 0);
	console_serve(c, p);
	return n;
}

static void turns(struct console *c)
{
	for (int i = 0; i < 1000 && turn(c) > 0; i++)
		;
}

/*
 * Runs the event loop and reads from the descriptor all that the console has for this viewer.
 * Returns the number of bytes.
 */
static size_t drain(struct console *c, int fd, char *text, size_t size)
{
	size_t got = 0;
	ssize_t n;

	for (int i = 0; i < 1000; i++) {
		turn(c);
		while (got < size && (n = read(fd, text + got, size - got)) > 0)
			got += (size_t)n;
	}
	return got;
}

static void late_viewer(void **state)
{
	static char text[2 * CONSOLE_RING], got[2 * CONSOLE_RING];
	struct console c = {0};

	assert_int_equal(console_init(&c, -EBADF, -EBADF), 0);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * 31 + i / 251);
	console_add(&c, text, 100);
	int first = attach(&c);
	assert_int_equal(drain(&c, first, got, sizeof(got)), 100);
	assert_memory_equal(got, text, 100);
	for (size_t at = 100; at < sizeof(text); at += 1000) {
		size_t n = sizeof(text) - at < 1000 ? sizeof(text) - at : 1000;
		console_add(&c, text + at, n);
	}
	/*
	 * The console must keep only the last CONSOLE_RING bytes of the guest's output. So a viewer
	 * that attaches late gets exactly these bytes, and so does a viewer that has not read for a
	 * long time.
	 */
	int late = attach(&c);
	assert_int_equal(drain(&c, late, got, sizeof(got)), CONSOLE_RING);
	assert_memory_equal(got, text + sizeof(text) - CONSOLE_RING, CONSOLE_RING);
	assert_int_equal(drain(&c, first, got, sizeof(got)), CONSOLE_RING);
	assert_memory_equal(got, text + sizeof(text) - CONSOLE_RING, CONSOLE_RING);
	assert_false(console_is_full(&c) || console_owes(&c));
	close(first);
	close(late);
	turns(&c);
	assert_int_equal(c.viewers[1].out, -EBADF);
	assert_int_equal(c.viewers[2].out, -EBADF);
	console_release(&c);
}

static void first_viewer_is_waited_for(void **state)
{
	static char text[CONSOLE_RING + 100000], got[CONSOLE_RING + 100000];
	struct console c = {0};
	size_t sent = 0, read_ = 0;
	int socks[2];
	ssize_t n;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, socks), 0);
	assert_int_equal(console_init(&c, dup(socks[1]), socks[1]), 0);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * 13 + i / 241);
	/*
	 * As the monitor does, the test adds output of the guest only while the console has room
	 * for what the first viewer has not read yet.
	 */
	while (sent < sizeof(text)) {
		while (!console_is_full(&c) && sent < sizeof(text)) {
			size_t len = sizeof(text) - sent < 1024 ? sizeof(text) - sent : 1024;
			console_add(&c, text + sent, len);
			sent += len;
			turns(&c);
		}
		n = read(socks[0], got + read_, 5000);
		assert_true(n > 0);
		read_ += (size_t)n;
		turns(&c);
	}
	assert_true(console_owes(&c));
	read_ += drain(&c, socks[0], got + read_, sizeof(got) - read_);
	assert_int_equal(read_, sizeof(text));
	assert_memory_equal(got, text, sizeof(text));
	/*
	 * The console must not wait for the first viewer any more after it has closed its socket.
	 */
	close(socks[0]);
	console_add(&c, text, 10);
	turns(&c);
	assert_false(console_owes(&c));
	console_release(&c);
}

/*
 * Checks that the console goes on while no one reads the terminal that is its first viewer, and
 * that the terminal gets all of the output later.
 */
static void stopped_terminal(void **state)
{
	static char text[CONSOLE_RING / 2], got[CONSOLE_RING / 2];
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK), unlock = 0;
	struct console c = {0};
	ssize_t n;

	assert_int_equal(ioctl(master, TIOCSPTLCK, &unlock), 0);
	int slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	int shared = dup(slave);
	assert_int_equal(console_init(&c, slave, slave), 0);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('A' + (i * 17 + i / 239) % 26);
	/*
	 * The terminal processes its output (OPOST), so a write that blocks waits until all bytes
	 * fit. SIGALRM would end the test then. The short first write makes sure that the last one
	 * does not fit exactly.
	 */
	alarm(20);
	console_add(&c, text, 100);
	turns(&c);
	console_add(&c, text + 100, sizeof(text) - 100);
	turns(&c);
	alarm(0);
	assert_true(console_owes(&c));
	assert_int_equal(fcntl(shared, F_GETFL) & O_NONBLOCK, 0);
	size_t sum = 0;
	for (int i = 0; i < 100000 && sum < sizeof(got); i++) {
		n = read(master, got + sum, sizeof(got) - sum);
		sum += n > 0 ? (size_t)n : 0;
		turn(&c);
	}
	assert_int_equal(sum, sizeof(text));
	assert_memory_equal(got, text, sizeof(text));
	console_release(&c);
	close(shared);
	close(master);
}

static void last_output(void **state)
{
	static char text[CONSOLE_RING], got[CONSOLE_RING];
	struct console c = {0};
	size_t sum = 0;
	int out[2];
	ssize_t n;

	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	assert_int_equal(pipe2(out, O_NONBLOCK), 0);
	assert_int_equal(console_init(&c, -EBADF, out[1]), 0);
	console_add(&c, text, 100);
	console_finish(&c, 1000);
	assert_false(console_owes(&c));
	assert_int_equal(read(out[0], got, sizeof(got)), 100);
	assert_memory_equal(got, text, 100);
	/* A viewer that takes nothing any more must not hold up the monitor's end. */
	console_add(&c, text, sizeof(text));
	console_finish(&c, 10);
	assert_true(console_owes(&c));
	while ((n = read(out[0], got + sum, sizeof(got) - sum)) > 0)
		sum += (size_t)n;
	assert_true(sum > 0);
	assert_memory_equal(got, text, sum);
	/* A viewer that has gone gets nothing. */
	close(out[0]);
	console_finish(&c, 1000);
	assert_false(console_owes(&c));
	console_release(&c);
}

static void typing(void **state)
{
	struct console c = {0};
	char text[4 * CONSOLE_INPUT];
	size_t got = 0;
	int guest[2];
	ssize_t n;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, guest), 0);
	assert_int_equal(console_init(&c, -EBADF, -EBADF), 0);
	int a = attach(&c), b = attach(&c);
	memset(text, 'a', sizeof(text));
	assert_int_equal(write(a, text, sizeof(text)), sizeof(text));
	assert_int_equal(write(b, "b", 1), 1);
	/*
	 * As long as the guest takes no input, the console must read no more than CONSOLE_INPUT
	 * bytes from the viewers.
	 */
	turns(&c);
	console_type(&c, -EBADF);
	assert_int_equal(c.input_len, CONSOLE_INPUT);
	for (int i = 0; i < 100; i++) {
		turns(&c);
		console_type(&c, guest[0]);
		while ((n = read(guest[1], text, sizeof(text))) > 0)
			got += (size_t)n;
	}
	assert_int_equal(got, sizeof(text) + 1);
	for (int i = 2; i < CONSOLE_VIEWERS - 1; i++)
		attach(&c);
	assert_int_equal(console_attach(&c, guest[0]), -EMFILE);
	assert_non_null(strstr(err_msg(), "console"));
	console_release(&c);
}

/* What is in the machine's socket when the machine ends is added all at once. */
static void end_of_the_machine(void **state)
{
	static char text[CONSOLE_RING * 2], got[CONSOLE_RING * 2];
	struct console c = {0};
	size_t sent = 0, in_socket = 0;
	int socks[2], machine[2];
	ssize_t n;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, socks), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, machine), 0);
	assert_int_equal(console_limit_socket(machine[1], false), 0);
	assert_int_equal(console_init(&c, dup(socks[1]), socks[1]), 0);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = (char)(i * 13 + i / 241);
	while (!console_is_full(&c)) {
		console_add(&c, text + sent, 1000);
		sent += 1000;
		turns(&c);
	}
	/* A write of the machine may be as large as the virtio console's or the serial port's. */
	while ((n = write(machine[1], text, sizeof(text))) > 0)
		in_socket += (size_t)n;
	assert_true(in_socket > 0 && in_socket <= CONSOLE_RING - CONSOLE_BEHIND);
	console_add(&c, text + sent, in_socket);
	sent += in_socket;
	assert_int_equal(drain(&c, socks[0], got, sizeof(got)), sent);
	assert_memory_equal(got, text, sent);
	close(socks[0]);
	close(machine[0]);
	close(machine[1]);
	console_release(&c);
}

/* Returns how many single bytes the machine can write to its socket before anything reads them. */
static int count_bytes(bool by_bytes)
{
	int machine[2], sent = 0;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, machine), 0);
	assert_int_equal(console_limit_socket(machine[1], by_bytes), 0);
	while (write(machine[1], "x", 1) == 1)
		sent++;
	close(machine[0]);
	close(machine[1]);
	return sent;
}

/* QEMU's serial port writes each byte by itself, and the guest may not wait for the port. */
static void bytes_one_by_one(void **state)
{
	const int size = CONSOLE_SEND_BUFFER_OF_BYTES;
	int sock = socket(AF_UNIX, SOCK_STREAM, 0);
	bool may = setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size)) == 0;

	close(sock);
	assert_true(count_bytes(false) >= 200);
	int most = count_bytes(true);
	assert_true(most >= (may ? 8000 : 200) && most <= (int)(CONSOLE_RING - CONSOLE_BEHIND));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(late_viewer),
		cmocka_unit_test(first_viewer_is_waited_for),
		cmocka_unit_test(end_of_the_machine),
		cmocka_unit_test(bytes_one_by_one),
		cmocka_unit_test(stopped_terminal),
		cmocka_unit_test(last_output),
		cmocka_unit_test(typing),
	};

	/*
	 * The test ignores SIGPIPE, because the monitor, in which this code runs otherwise, blocks
	 * all signals.
	 */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
