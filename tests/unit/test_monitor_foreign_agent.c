/* SPDX-License-Identifier: Apache-2.0 */
/* Tests how the monitor asks the agent in a foreign guest to power off. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <endian.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "monitor/monitor_internal.h"

static struct monitor m;
static int guest = -EBADF;

/* Connects an agent to the monitor, and greets. An agent that was connected is replaced. */
static void connect_agent(void)
{
	char hello[64];
	int s[2];

	snprintf(hello, sizeof(hello), "{\"type\":\"hello\",\"version\":%d}", AGENT_VERSION);
	const struct agent_header h = {htole32((uint32_t)strlen(hello)), 0};
	fd_close(&guest);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s), 0);
	m.streams.agent = s[0];
	guest = s[1];
	foreign_take_agent(&m);
	assert_false(m.agent_greeted);
	assert_int_equal(send(guest, &h, sizeof(h), 0), sizeof(h));
	assert_int_equal(send(guest, hello, strlen(hello), 0), strlen(hello));
	foreign_on_agent(&m);
	assert_true(m.agent_greeted);
}

/* Says whether the agent has got a message. */
static bool is_told(void)
{
	char bytes[256];

	return recv(guest, bytes, sizeof(bytes), MSG_DONTWAIT) > 0;
}

/* An agent cannot keep the monitor from pressing the power button by connecting again and again. */
static void asked_once(void **state)
{
	m = (struct monitor){.phase = PHASE_RUNNING};
	m.agent = m.starter = m.start_lock = m.console = m.channel = -EBADF;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		m.clients[i].sock = -EBADF;
	assert_int_equal(streams_init(&m.streams), 0);
	assert_int_equal(foreign_shut_down(&m), 0);

	connect_agent();
	assert_int_equal(foreign_shut_down(&m), 1);
	assert_true(is_told());
	assert_int_equal(foreign_shut_down(&m), 0);
	connect_agent();
	assert_int_equal(foreign_shut_down(&m), 0);
	fd_close(&guest);
	foreign_on_agent(&m);
	connect_agent();
	assert_int_equal(foreign_shut_down(&m), 0);
	assert_false(is_told());

	agent_reader_release(&m.reader);
	streams_release(&m.streams);
	fd_close(&m.agent);
	fd_close(&guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(asked_once)};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
