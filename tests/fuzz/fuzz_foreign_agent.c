/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the monitor of a foreign guest with a hostile agent: the input decides what the agent
 * sends. Whatever it sends, the machine must go on: the phase, the status and the connection to the
 * runtime stay as they are, and only the agent's connection may end. Then the agent connects again.
 *
 * The input is a list of operations; the first byte modulo 3 says which:
 *   0 type, process, value    the agent sends a frame with the members of its type
 *   1 len[2], bytes           the agent sends a frame with this text
 *   2 len[2], bytes           the agent sends the bytes without a frame
 */
#include <endian.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "fuzz/input.h"
#include "monitor/monitor_internal.h"
#include "unit/rig/descriptors.h"

#define CLIENTS 2
#define LATER 99 /* number of the execs so far, which a hostile agent must not be able to change */

static struct monitor m;
static int guest = -EBADF, commands[CLIENTS] = {-EBADF, -EBADF};

static void connect_agent(void)
{
	int s[2];

	fd_close(&guest);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s) < 0)
		abort();
	m.streams.agent = s[0];
	guest = s[1];
	foreign_take_agent(&m);
	if (m.agent != s[0] || m.agent_greeted || m.reader.len)
		abort();
}

/* Connects a command that waits for a reply, and one that is the proxy of an exec. */
static void connect_commands(void)
{
	int s[2];

	for (unsigned i = 0; i < CLIENTS; i++) {
		struct client *c = &m.clients[i];
		if (c->sock >= 0)
			continue;
		fd_close(&commands[i]);
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s) < 0)
			abort();
		*c = (struct client){.sock = s[0], .process = i, .request = i ? 0 : 1};
		commands[i] = s[1];
		int out = i ? memfd_create("stdout", MFD_CLOEXEC) : -EBADF;
		if (i && (out < 0 || streams_offer(&m.streams, i, AGENT_STDOUT, out) < 0))
			abort();
	}
}

static void send_bytes(const void *bytes, size_t len)
{
	char answer[4096];

	if (send(guest, bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
		abort();
	foreign_on_agent(&m);
	monitor_send_exits(&m);
	for (unsigned i = 0; i < CLIENTS; i++)
		while (recv(commands[i], answer, sizeof(answer), MSG_DONTWAIT) > 0)
			;
	if (m.phase != PHASE_RUNNING || m.status || m.channel != -EBADF ||
		m.next_process != LATER || m.lines > GUEST_LINES_MAX)
		abort();
	if (m.agent < 0)
		connect_agent();
	connect_commands();
}

static void send_frame(const void *json, size_t len)
{
	const struct agent_header h = {htole32((uint32_t)len), 0};
	uint8_t frame[sizeof(h) + 4096];

	memcpy(frame, &h, sizeof(h));
	memcpy(frame + sizeof(h), json, len);
	send_bytes(frame, sizeof(h) + len);
}

static void put_known(struct input *in)
{
	static const char *const types[] = {"hello", "running", "failed", "exited", "reply", "log",
		"reached", "steps", "resumed", "oom"};
	_cleanup_json_out_ struct json_out o = {0};
	const char *json;
	size_t len;

	if (json_out_init(&o, false) < 0)
		abort();
	json_out_object(&o, NULL);
	json_out_str(&o, "type", types[take(in, 1) % ARRAY_SIZE(types)]);
	json_out_u64(&o, "process", take(in, 1) % 4);
	uint32_t value = take(in, 1);
	json_out_u64(&o, "status", value << 8);
	json_out_u64(&o, "id", value);
	json_out_u64(&o, "errno", value);
	/* A frame with the value 0 has the right version. */
	json_out_u64(&o, "version", value + AGENT_VERSION);
	json_out_str(&o, "message", "x\ny");
	json_out_str(&o, "barrier", "created");
	json_out_end_object(&o);
	if (json_out_text(&o, &json, &len) < 0)
		abort();
	send_frame(json, len);
}

static void begin(void)
{
	m = (struct monitor){.phase = PHASE_RUNNING, .next_process = LATER};
	m.agent = m.starter = m.start_lock = m.console = m.channel = -EBADF;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		m.clients[i].sock = -EBADF;
	if (streams_init(&m.streams) < 0)
		abort();
	connect_agent();
	connect_commands();
}

static void end(void)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		client_close(&m.clients[i]);
		fd_close(&commands[i]);
	}
	agent_reader_release(&m.reader);
	streams_release(&m.streams);
	fd_close(&m.agent);
	fd_close(&guest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, size};
	uint8_t bytes[4096];
	const unsigned before = descriptors_below(256);

	begin();
	while (in.left > 0) {
		const unsigned kind = take(&in, 1) % 3;
		if (kind == 0) {
			put_known(&in);
			continue;
		}
		size_t len = take_bytes(&in, bytes, take(&in, 2) % sizeof(bytes));
		if (kind == 1)
			send_frame(bytes, len);
		else if (len > 0)
			send_bytes(bytes, len);
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
