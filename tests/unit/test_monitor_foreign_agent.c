/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests what the monitor of a machine does if the agent in it has gone while commands wait, from
 * where an agent may connect, and how the agent is asked to power off.
 * tests/fuzz/fuzz_foreign_agent.c attacks it with messages.
 */
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

static unsigned pressed; /* how often the power button of the test's machine was pressed */

static int press(struct engine *e)
{
	pressed++;
	return 0;
}

static const struct engine_ops ops = {.press_power = press};

static struct monitor m;
static int command; /* the command's end of its connection to the monitor */

/* A machine that runs, without an agent, and a command that is the proxy of exec 1. */
static void set_up(bool ended)
{
	static const struct machine_config machine = {.foreign = true};
	static const struct monitor_args args = {.machine = &machine};
	int client[2];

	m = (struct monitor){
		.a = &args, .engine = {.ops = &ops}, .phase = PHASE_RUNNING, .agent = -EBADF};
	pressed = 0;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		m.clients[i].sock = -EBADF;
	assert_int_equal(streams_init(&m.streams), 0);
	m.streams.agent_is_service = true;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client), 0);
	m.clients[0] =
		(struct client){.sock = client[0], .process = 1, .ended = ended, .status = 7 << 8};
	command = client[1];
}

static void tear_down(void)
{
	if (m.clients[0].sock >= 0)
		client_close(&m.clients[0]);
	fd_close(&command);
	fd_close(&m.agent);
	agent_reader_release(&m.reader);
	streams_release(&m.streams);
}

static void ask(const char *type, const char *key, int value)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	assert_int_equal(agent_begin(&w, type), 0);
	json_out_i64(&w.json, key, value);
	json_out_i64(&w.json, "columns", 80);
	assert_int_equal(agent_send(&w, command, NULL, 0), 0);
	monitor_on_client(&m, &m.clients[0]);
}

/* The command gets a message of this type, in which `key` is `value`. */
static void gets(const char *type, const char *key, int value)
{
	_cleanup_agent_frame_ struct agent_frame f = {0};
	struct agent_reader reader = {0};
	int64_t got;

	assert_int_equal(agent_reader_receive(&reader, command), 1);
	assert_int_equal(agent_reader_next(&reader, &f), 1);
	assert_string_equal(f.type, type);
	assert_int_equal(json_get_i64(f.json, key, &got), 0);
	assert_int_equal(got, value);
	agent_reader_release(&reader);
}

/*
 * What ends an exec never ends the machine, even if the exec's process has ended and the agent is
 * gone, so that only its output is still under way.
 */
static void signals_of_an_exec_are_not_for_the_machine(void **state)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGKILL, SIGUSR1, 0};

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		set_up(true);
		ask("resize", "rows", 25);
		ask("signal", "signal", signals[i]);
		assert_int_equal(m.phase, PHASE_RUNNING);
		assert_int_equal(m.status, 0);
		assert_int_equal(pressed, 0);
		assert_true(m.clients[0].sock >= 0);
		/* The proxy gives up its wait for the output only if the signal asks it to end. */
		assert_int_equal(m.clients[0].give_up != 0, monitor_is_end(signals[i]));
		assert_false(monitor_send_exits(&m));
		gets("exited", "status", 7 << 8);
		tear_down();
	}
}

static void an_exec_without_agent_has_ended(void **state)
{
	set_up(false);
	ask("signal", "signal", SIGKILL);
	assert_int_equal(m.phase, PHASE_RUNNING);
	assert_int_equal(pressed, 0);
	gets("failed", "errno", ESRCH);
	assert_true(m.clients[0].sock < 0);
	tear_down();
}

/* `caisson kill` still reaches the machine. */
static void signals_of_kill_are_for_the_machine(void **state)
{
	set_up(false);
	m.clients[0].process = 0;
	ask("signal", "signal", SIGTERM);
	assert_int_equal(pressed, 1);
	gets("reply", "errno", 0);
	ask("signal", "signal", SIGKILL);
	assert_int_equal(m.phase, PHASE_CUT);
	tear_down();
}

/*
 * On both sides of the agent's connection only a privileged program can be: on the host in case
 * another hypervisor boots the disk, where an ordinary user could listen at a port from 1024 on.
 */
static void ports_of_the_agent_are_reserved(void **state)
{
	unsigned use = 0;

	set_up(true);
	assert_true(AGENT_SERVICE_PORT < 1024);
	assert_int_equal(streams_on_connect(&m.streams, 1023, AGENT_PORT, &use), -ECONNREFUSED);
	assert_int_equal(
		streams_on_connect(&m.streams, 1024, AGENT_SERVICE_PORT, &use), -ECONNREFUSED);
	int fd = streams_on_connect(&m.streams, 1023, AGENT_SERVICE_PORT, &use);
	assert_true(fd >= 0);
	fd_close(&fd);
	foreign_take_agent(&m);
	assert_true(m.agent >= 0);
	foreign_on_agent(&m);
	assert_true(m.agent < 0);
	tear_down();
}

static int guest = -EBADF; /* the end of the connection that the agent has */

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
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signals_of_an_exec_are_not_for_the_machine),
		cmocka_unit_test(an_exec_without_agent_has_ended),
		cmocka_unit_test(signals_of_kill_are_for_the_machine),
		cmocka_unit_test(ports_of_the_agent_are_reserved),
		cmocka_unit_test(asked_once),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
