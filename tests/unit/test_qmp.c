/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the reader of QEMU's messages: whole and partial lines, bad lines, and lines too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/qmp.h"

static struct qmp q;
static int qemu = -EBADF; /* the end of the socket that stands for QEMU's */

static int open_socket(void **state)
{
	int socks[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socks) < 0)
		return -1;
	q = (struct qmp){.sock = socks[0]};
	qemu = socks[1];
	return 0;
}

static int close_socket(void **state)
{
	fd_close(&q.sock);
	fd_close(&qemu);
	return 0;
}

static void say(const char *text)
{
	assert_int_equal(write(qemu, text, strlen(text)), strlen(text));
}

/* Reads one message, and checks that it is the event with this name. */
static void expect_event(const char *name)
{
	_cleanup_arena_ struct arena a = {0};
	struct json *m;

	assert_int_equal(qmp_next(&q, &a, &m), 1);
	assert_string_equal(json_get_str(m, "event"), name);
}

static void expect(int r)
{
	_cleanup_arena_ struct arena a = {0};
	struct json *m;

	assert_int_equal(qmp_next(&q, &a, &m), r);
}

static void lines(void **state)
{
	say("{\"event\": \"A\"}\r\n{\"event\": \"B\"}\r\n{\"event\"");
	expect_event("A");
	expect_event("B");
	expect(0);
	say(": \"C\"}\n");
	expect_event("C");
	say("no JSON\n\n{\"event\": \"D\"}\n");
	expect_event("D");
	fd_close(&qemu);
	expect(-EPIPE);
}

/* Sends lines until the socket is full. */
static void flood(void)
{
	static char line[1024];

	memset(line, ' ', sizeof(line));
	memcpy(line, "{}", 2);
	line[sizeof(line) - 1] = '\n';
	while (write(qemu, line, sizeof(line)) == sizeof(line))
		;
}

/* A QEMU that never stops to send does not keep the monitor from its other work. */
static void endless_messages(void **state)
{
	const unsigned most = QMP_READS_MAX * (QMP_LINE_MAX / 1024);

	for (unsigned round = 0; round < 2; round++) {
		unsigned n = 0;
		for (int r = 1; r > 0;) {
			_cleanup_arena_ struct arena a = {0};
			struct json *m;
			flood();
			r = qmp_next(&q, &a, &m);
			assert_true(r >= 0);
			n += r > 0;
			assert_true(n <= most);
		}
		assert_true(n > 1);
	}
}

/* A line that does not fit is dropped as a whole, however it comes, and the next line is read. */
static void long_lines(void **state)
{
	_cleanup_free_ char *text = malloc(3 * QMP_LINE_MAX + 1);

	assert_non_null(text);
	memset(text, ' ', 3 * QMP_LINE_MAX);
	text[3 * QMP_LINE_MAX] = '\0';
	say(text);
	expect(0);
	say("{\"event\": \"end of the long line\"}\n{\"event\": \"E\"}\n");
	expect_event("E");
	expect(0);
}

static void commands(void **state)
{
	char text[16];

	assert_int_equal(qmp_send(&q, "{}\n"), 0);
	assert_int_equal(read(qemu, text, sizeof(text)), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(lines, open_socket, close_socket),
		cmocka_unit_test_setup_teardown(endless_messages, open_socket, close_socket),
		cmocka_unit_test_setup_teardown(long_lines, open_socket, close_socket),
		cmocka_unit_test_setup_teardown(commands, open_socket, close_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
