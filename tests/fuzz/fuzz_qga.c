/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the monitor of a foreign guest with a hostile qemu-guest-agent: the input decides what the
 * agent sends, and when. Whatever it sends, the machine goes on, the monitor keeps no more than the
 * longest answer, and each request of a command has one reply.
 *
 * The input is a list of operations; the first byte modulo 5 says which:
 *   0 kind            the command asks, if it does not wait for a reply already
 *   1 len[2], bytes   the agent sends the bytes
 *   2 len[2], bytes   the agent answers guest-sync-delimited as it should, and then sends the bytes
 *   3                 the time limit of what is under way passes
 *   4                 the agent closes its port
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "fuzz/input.h"
#include "monitor/monitor_internal.h"
#include "unit/rig/descriptors.h"

static struct monitor m;
static int agent, command;
static bool port_is_open;

static bool is_open(const struct engine *e)
{
	return port_is_open;
}

static const struct engine_ops ops = {.guest_agent_is_open = is_open};

static void begin(void)
{
	int s[2], t[2];

	m = (struct monitor){.phase = PHASE_RUNNING, .engine = {.ops = &ops}};
	m.agent = -EBADF;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		m.clients[i].sock = -EBADF;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s) < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, t) < 0)
		abort();
	foreign_qga_open(&m, s[0]);
	agent = s[1];
	m.clients[0].sock = t[0];
	command = t[1];
	port_is_open = true;
}

static void end(void)
{
	client_close(&m.clients[0]);
	qga_release(&m.qga);
	fd_close(&agent);
	fd_close(&command);
}

/* Asks as a command does. The output of a process is taken as far as there is some. */
static void ask(unsigned kind)
{
	static const char *const types[] = {"qgainfo", "qgaexec", "qgastatus", "qgaoutput"};
	static const char text[] = "{\"args\":[\"a\"],\"env\":[],\"capture\":true}";
	struct agent_frame f = {.type = types[kind % ARRAY_SIZE(types)]};

	if (m.clients[0].qga.request)
		return;
	if (json_parse(&f.arena, text, strlen(text), "the request", &f.json) < 0)
		abort();
	if (foreign_qga_request(&m, &m.clients[0], &f) < 0)
		err_clear();
	agent_frame_release(&f);
}

/* Does what the monitor's loop does, and checks what must hold after each event. */
static void serve(void)
{
	for (;;) {
		char bytes[65536];
		struct pollfd p;
		qga_poll(&m.qga, &p);
		if (poll(&p, 1, 0) <= 0)
			break;
		qga_serve(&m.qga, p.revents);
		if (m.phase != PHASE_RUNNING || m.status || m.clients[0].sock < 0 ||
			m.qga.in.len > QGA_STATUS_MAX ||
			(m.qga.state == QGA_SYNCING && m.qga.in.len > 256) ||
			!m.clients[0].qga.request != !m.qga.n)
			abort();
		while (recv(agent, bytes, sizeof(bytes), 0) > 0)
			;
		while (recv(command, bytes, sizeof(bytes), 0) > 0)
			;
	}
}

static void say(const void *bytes, size_t len)
{
	if (send(agent, bytes, len, MSG_NOSIGNAL) < 0 && errno != EAGAIN)
		abort();
	serve();
}

static void say_sync(void)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "\xff{\"return\": %lld}\n", (long long)m.qga.sync);

	if (m.qga.state == QGA_SYNCING)
		say(text, (size_t)n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t bytes[4096];
	const unsigned before = descriptors_below(256);

	begin();
	while (in.left > 0) {
		const unsigned kind = take(&in, 1) % 5;
		if (kind == 0)
			ask(take(&in, 1));
		if (kind == 1 || kind == 2) {
			size_t len = take_bytes(&in, bytes, take(&in, 2) % sizeof(bytes));
			if (kind == 2)
				say_sync();
			say(bytes, len);
		}
		if (kind == 3)
			qga_check_deadline(&m.qga, INT64_MAX);
		port_is_open = kind != 4;
		foreign_qga_on_port(&m);
		serve();
	}
	end();
	if (descriptors_below(256) != before)
		abort();
	return 0;
}

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	signal(SIGPIPE, SIG_IGN);
	/* The monitor's warnings go to no one, because there may be thousands of them. */
	return log_open("/dev/null", "json", false) < 0;
}
