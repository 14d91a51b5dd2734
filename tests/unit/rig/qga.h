/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A monitor with one command and the connection to qemu-guest-agent, which the test is. A test
 * includes this file once, after cmocka.h.
 */
#pragma once
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/fd.h"
#include "monitor/monitor_internal.h"

static struct monitor m;
static int agent, command; /* the other ends of the monitor's connections */
static bool open_port;
static unsigned pressed;

static bool is_open(const struct engine *e)
{
	return open_port;
}

static int press(struct engine *e)
{
	pressed++;
	return 0;
}

static const struct engine_ops ops = {.press_power = press, .guest_agent_is_open = is_open};

/* A machine that runs, whose agent has opened its port, and a command. */
static int set_up(void **state)
{
	static const struct machine_config machine = {.foreign = true};
	static const struct monitor_args args = {.machine = &machine};
	int s[2];

	m = (struct monitor){.a = &args,
		.engine = {.ops = &ops, .events = -EBADF},
		.phase = PHASE_RUNNING,
		.agent = -EBADF};
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		m.clients[i].sock = -EBADF;
	open_port = true;
	pressed = 0;
	assert_int_equal(streams_init(&m.streams), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	m.clients[0].sock = s[0];
	command = s[1];
	/* A test whose answer does not come fails, and does not wait. */
	assert_int_equal(fcntl(command, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s), 0);
	foreign_qga_open(&m, s[0]);
	agent = s[1];
	return 0;
}

static int tear_down(void **state)
{
	if (m.clients[0].sock >= 0)
		client_close(&m.clients[0]);
	qga_release(&m.qga);
	streams_release(&m.streams);
	fd_close(&agent);
	fd_close(&command);
	return 0;
}

/* Does what the monitor's loop does, until nothing is left to read or write. */
static inline void serve(void)
{
	for (;;) {
		struct pollfd p;
		qga_poll(&m.qga, &p);
		if (poll(&p, 1, 0) <= 0)
			return;
		qga_serve(&m.qga, p.revents);
	}
}

static inline void ask_with(const char *type, const char *arg, const void *blob, size_t len)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	assert_int_equal(agent_begin(&w, type), 0);
	json_out_array(&w.json, "args");
	json_out_str(&w.json, NULL, "/bin/cat");
	json_out_str(&w.json, NULL, arg);
	json_out_end_array(&w.json);
	json_out_array(&w.json, "env");
	json_out_str(&w.json, NULL, "A=b");
	json_out_end_array(&w.json);
	json_out_bool(&w.json, "capture", true);
	assert_int_equal(agent_send(&w, command, blob, len), 0);
	monitor_on_client(&m, &m.clients[0]);
}

static inline void ask(const char *type)
{
	ask_with(type, "x", NULL, 0);
}

static inline void get(struct agent_frame *ret)
{
	struct agent_reader reader = {0};
	int r;

	while ((r = agent_reader_next(&reader, ret)) == 0)
		assert_int_equal(agent_reader_receive(&reader, command), 1);
	assert_int_equal(r, 1);
	assert_string_equal(ret->type, "reply");
	agent_reader_release(&reader);
}

static inline void replies_pid(int64_t expected)
{
	_cleanup_agent_frame_ struct agent_frame f = {0};
	int64_t pid;

	get(&f);
	assert_int_equal(json_get_i64(f.json, "pid", &pid), 0);
	assert_int_equal(pid, expected);
}

/* The command gets the answer that its request has failed, for a reason that has this text. */
static inline void fails(const char *text)
{
	_cleanup_agent_frame_ struct agent_frame f = {0};

	get(&f);
	assert_true(agent_failure(&f) < 0);
	if (!strstr(err_msg(), text))
		fail_msg("\"%s\" is not in \"%s\"", text, err_msg());
}

/* The command has got nothing yet. */
static inline void waits(void)
{
	char byte;

	assert_int_equal(recv(command, &byte, 1, MSG_DONTWAIT | MSG_PEEK), -1);
}

/* Reads what the monitor has sent to the agent, as text. */
static inline void hear(char text[static 65536])
{
	ssize_t n = recv(agent, text, 65535, 0);

	assert_true(n >= 0 || errno == EAGAIN);
	text[n > 0 ? n : 0] = '\0';
}

static inline void say(const char *text)
{
	const size_t len = strlen(text);

	for (size_t sent = 0; sent < len;) {
		ssize_t n = send(agent, text + sent, len - sent, MSG_NOSIGNAL);
		if (n < 0)
			assert_int_equal(errno, EAGAIN);
		sent += n > 0 ? (size_t)n : 0;
		serve();
	}
}

/* Reads guest-sync-delimited, and returns its number. */
static inline int64_t hear_sync(void)
{
	char text[65536];
	int64_t id;

	hear(text);
	assert_int_equal(sscanf(text,
				 "\xff{\"execute\":\"guest-sync-delimited\",\"arguments\":"
				 "{\"id\":%ld}}\n",
				 &id),
		1);
	return id;
}

/* Answers guest-sync-delimited. *ret gets the request that then comes. */
static inline void sync_with(const char *before, char ret[static 65536])
{
	char text[128];
	const int64_t id = hear_sync();

	say(before);
	hear(ret);
	assert_string_equal(ret, "");
	snprintf(text, sizeof(text), "\xff{\"return\": %ld}\n", id);
	say(text);
	hear(ret);
}

static inline void answers_to(const char *type, const char *answer)
{
	char request[65536];

	ask(type);
	sync_with("", request);
	say(answer);
}

/* Starts a process, so that its status can be asked for. */
static inline void start(void)
{
	_cleanup_agent_frame_ struct agent_frame f = {0};

	answers_to("qgaexec", "{\"return\": {\"pid\": 5}}\n");
	get(&f);
	assert_int_equal(agent_failure(&f), 0);
}
