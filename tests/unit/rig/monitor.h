/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A monitor with one command and one guest, whose messages the test writes and reads itself. A test
 * includes this file once, after cmocka.h.
 */
#pragma once
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/fd.h"
#include "monitor/monitor_internal.h"

static struct monitor m;
static int guest, command; /* the test's ends of the sockets */

static void rig_monitor(const struct engine_ops *ops, const struct machine_config *machine)
{
	static struct monitor_args args;
	int agent[2], client[2];

	args.machine = machine;
	m = (struct monitor){.a = &args, .engine = {.ops = ops}, .phase = PHASE_RUNNING};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, agent), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client), 0);
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		m.clients[i].sock = -EBADF;
	m.agent = agent[0];
	guest = agent[1];
	m.clients[0].sock = client[0];
	command = client[1];
}

static void rig_monitor_end(void)
{
	hotplug_release(&m);
	fd_close(&m.agent);
	fd_close(&guest);
	fd_close(&command);
	if (m.clients[0].sock >= 0)
		client_close(&m.clients[0]);
}

/* Sends a request, with n descriptors, as a command does. */
static void ask_fds(const char *json, const int *fds, size_t n)
{
	struct agent_header h = {(uint32_t)strlen(json), 0};
	union {
		char bytes[CMSG_SPACE(AGENT_FDS_MAX * sizeof(int))];
		struct cmsghdr head;
	} control = {.head = {CMSG_LEN(n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec v[] = {{&h, sizeof(h)}, {(char *)json, strlen(json)}};
	struct msghdr msg = {.msg_iov = v, .msg_iovlen = 2};

	if (n) {
		memcpy(CMSG_DATA(&control.head), fds, n * sizeof(*fds));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
	}
	assert_true(sendmsg(command, &msg, 0) > 0);
	monitor_on_client(&m, &m.clients[0]);
}

/* Sends a request, with a descriptor if fd >= 0. */
static inline void ask(const char *json, int fd)
{
	ask_fds(json, &fd, fd >= 0 ? 1 : 0);
}

/* Reads the next message at one of the test's sockets. Fails if there is none. */
static struct agent_frame next(int sock)
{
	struct agent_reader reader = {0};
	struct agent_frame f = {0};

	assert_int_equal(fcntl(sock, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(agent_reader_receive(&reader, sock), 1);
	assert_int_equal(agent_reader_next(&reader, &f), 1);
	assert_int_equal(reader.len, 0);
	agent_reader_release(&reader);
	return f;
}

/* The next message to the command must be a reply with this errno and text. */
static void replied(int code, const char *text)
{
	_cleanup_agent_frame_ struct agent_frame f = next(command);
	int64_t got;

	assert_string_equal(f.type, "reply");
	assert_int_equal(json_get_i64(f.json, "errno", &got), 0);
	if (got != code || !strstr(json_get_str(f.json, "message"), text))
		fail_msg("reply %lld: %s", (long long)got, json_get_str(f.json, "message"));
}

static void silent(int sock)
{
	char byte;

	assert_int_equal(recv(sock, &byte, 1, MSG_DONTWAIT), -1);
}

/* The guest must have got a message of this type. Returns the message's id. */
static inline uint64_t told(const char *type)
{
	_cleanup_agent_frame_ struct agent_frame f = next(guest);
	uint64_t id;

	assert_string_equal(f.type, type);
	assert_int_equal(json_get_u64(f.json, "id", &id), 0);
	return id;
}

static void answer(uint64_t id, int code, const char *text)
{
	char json[256];
	_cleanup_arena_ struct arena a = {0};
	struct agent_frame f = {.type = "reply"};

	snprintf(json, sizeof(json),
		"{\"type\":\"reply\",\"id\":%llu,\"errno\":%d,\"message\":\"%s\"}",
		(unsigned long long)id, code, text);
	assert_int_equal(json_parse(&a, json, strlen(json), "test", &f.json), 0);
	assert_int_equal(monitor_on_frame(&m, &f), 0);
}
