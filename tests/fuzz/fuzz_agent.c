/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the monitor with a hostile guest: the input decides what the guest's agent sends over its
 * stream to the monitor, which passes parts of it on to the runtime and to commands. Besides the
 * sanitizers, the fuzzer checks that an error is one line, that the runtime gets only messages of
 * the channel and a command only frames, and that log, memory and descriptors stay bounded.
 *
 * The input is a list of operations; the first byte modulo 6 says which:
 *   0 type, process, value[3], text   the agent sends a frame with the members of its type
 *   1 len[2], bytes         the agent sends a frame with this text
 *   2 len[2], bytes         the agent sends the bytes without a frame
 *   3 client, kind          a command connects; it waits for a reply, or is an exec
 *   4 client                the command hangs up
 *   5 count                 the agent repeats the last frame (count modulo 8 times, or 255 times)
 */
#include <endian.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/log.h"
#include "fuzz/input.h"
#include "monitor/monitor_internal.h"
#include "ns/channel.h"
#include "unit/rig/descriptors.h"

#define CLIENTS 4
/* largest number of frames that the guest sends in one input, because more would only take time */
#define FRAMES_MAX (GUEST_LINES_MAX + 50)

struct world {
	struct monitor m;
	/* the fuzzer's ends of the monitor's sockets to the guest and to the runtime */
	int guest, runtime;
	/* the fuzzer's ends of the sockets to the commands, whose other ends are in m.clients */
	int command[CLIENTS];
	uint8_t frame[9000]; /* the last frame that was sent */
	size_t frame_len;
	unsigned sent;
	bool failed;
	enum monitor_phase phase; /* phase of the monitor before it got the last frame */
};

static int log_file = -EBADF;

static void hear_runtime(struct world *w)
{
	struct pollfd p = {w->runtime, POLLIN, 0};
	struct channel_msg msg;
	int fd = -EBADF;

	while (poll(&p, 1, 0) > 0 && (p.revents & POLLIN)) {
		int r = channel_recv(w->runtime, &msg, &fd);
		if (r < 0 || fd >= 0)
			abort();
		if (r == 0)
			break;
	}
}

static void hear_commands(struct world *w)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		struct agent_reader reader = {0};
		struct agent_frame f;
		char byte;

		if (w->command[i] < 0 || recv(w->command[i], &byte, 1, MSG_PEEK) <= 0)
			continue;
		while (agent_reader_receive(&reader, w->command[i]) > 0)
			;
		for (;;) {
			int r = agent_reader_next(&reader, &f);
			if (r < 0 || (r == 0 && reader.len > 0))
				abort();
			if (r == 0)
				break;
			agent_frame_release(&f);
		}
		agent_reader_release(&reader);
	}
}

static void check(const struct world *w, int r)
{
	const struct monitor *m = &w->m;

	if (r < 0) {
		if (!*err_msg())
			abort();
		for (const char *p = err_msg(); *p; p++)
			if ((unsigned char)*p < ' ')
				abort();
	}
	if (m->status < 0 || m->status > 0xffff || m->phase < w->phase ||
		m->reader.len > sizeof(struct agent_header) + AGENT_JSON_MAX + AGENT_BLOB_MAX)
		abort();
}

/*
 * Reads the bytes that have arrived from the guest's agent, and handles the messages in them as
 * on_agent() in monitor.c does.
 */
static void deliver(struct world *w)
{
	char answers[4096];
	int r = agent_reader_receive(&w->m.reader, w->m.agent);

	while (!w->failed && (r > 0 || r == -EAGAIN)) {
		_cleanup_agent_frame_ struct agent_frame f = {0};

		w->phase = w->m.phase;
		r = agent_reader_next(&w->m.reader, &f);
		if (r == 0)
			break;
		if (r > 0)
			r = monitor_on_frame(&w->m, &f) < 0 ? -1 : 1;
		w->failed = r < 0;
		check(w, r);
		hear_runtime(w);
		hear_commands(w);
		while (recv(w->guest, answers, sizeof(answers), MSG_DONTWAIT) > 0)
			;
	}
}

static void send_bytes(struct world *w, const void *bytes, size_t len)
{
	if (w->failed || w->sent++ >= FRAMES_MAX)
		return;
	if (send(w->guest, bytes, len, MSG_NOSIGNAL) != (ssize_t)len)
		abort();
	deliver(w);
}

static void send_frame(struct world *w, const void *json, size_t json_len, size_t blob_len)
{
	struct agent_header h = {htole32((uint32_t)json_len), htole32((uint32_t)blob_len)};

	memcpy(w->frame, &h, sizeof(h));
	memcpy(w->frame + sizeof(h), json, json_len);
	memset(w->frame + sizeof(h) + json_len, 'b', blob_len);
	w->frame_len = sizeof(h) + json_len + blob_len;
	send_bytes(w, w->frame, w->frame_len);
}

/*
 * Adds the array "steps", which a message of the type "steps" has; its numbers follow from `value`.
 */
static void put_steps(struct json_out *o, uint32_t value)
{
	json_out_array(o, "steps");
	for (uint32_t i = 0; i < value % 5; i++) {
		json_out_object(o, NULL);
		json_out_u64(o, "step", value >> 8 & 3);
		json_out_u64(o, "begin", (uint64_t)value << (value & 63));
		json_out_u64(o, "end", (uint64_t)value << (value >> 3 & 63));
		json_out_bool(o, "init", value & 4);
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

static void put_known(struct world *w, struct input *in)
{
	static const char *const types[] = {"hello", "reached", "failed", "running", "exited",
		"reply", "log", "steps", "resumed"};
	static const char *const barriers[] = {"created", "recorded", "start", "mounted"};
	struct json_out o = {0};
	char text[256];
	const char *json;
	size_t len;

	if (json_out_init(&o, false) < 0)
		abort();
	json_out_object(&o, NULL);
	json_out_str(&o, "type", types[take(in, 1) % 9]);
	json_out_u64(&o, "process", take(in, 1) % 4);
	uint32_t value = take(in, 3);
	json_out_u64(&o, "status", value);
	/*
	 * A message with the value 1 has the right version. The inputs of the corpus use this
	 * value.
	 */
	json_out_u64(&o, "version", value + AGENT_VERSION - 1);
	json_out_u64(&o, "id", value);
	json_out_u64(&o, "errno", value);
	json_out_u64(&o, "pid", value);
	json_out_str(&o, "barrier", barriers[value % 4]);
	json_out_u64(&o, "clock", value);
	put_steps(&o, value);
	text[take_bytes(in, text, take(in, 1))] = '\0';
	json_out_str(&o, "message", text);
	json_out_end_object(&o);
	if (json_out_text(&o, &json, &len) >= 0)
		send_frame(w, json, len, value % 8 ? 0 : 16);
	json_out_release(&o);
}

static void put_client(struct world *w, unsigned i, unsigned kind)
{
	struct client *c = &w->m.clients[i];
	int s[2];

	if (c->sock >= 0)
		return;
	fd_close(&w->command[i]);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0 ||
		fcntl(s[1], F_SETFL, O_NONBLOCK) < 0)
		abort();
	c->sock = s[0];
	w->command[i] = s[1];
	if (kind & 1)
		c->process = ++w->m.next_process;
	else
		c->request = ++w->m.next_request;
	int stream = memfd_create("stdout", MFD_CLOEXEC);
	if (stream < 0 || streams_offer(&w->m.streams, c->process, 1, stream) < 0)
		abort();
}

static void play(struct world *w, struct input *in)
{
	uint8_t bytes[4096];
	size_t len;

	while (in->left > 0 && !w->failed && w->sent < FRAMES_MAX) {
		switch (take(in, 1) % 6) {
		case 0:
			put_known(w, in);
			break;
		case 1:
			len = take_bytes(in, bytes, take(in, 2) % sizeof(bytes));
			send_frame(w, bytes, len, len % 64);
			break;
		case 2:
			len = take_bytes(in, bytes, take(in, 2) % sizeof(bytes));
			if (len > 0)
				send_bytes(w, bytes, len);
			break;
		case 3:
			len = take(in, 1) % CLIENTS;
			put_client(w, (unsigned)len, take(in, 1));
			break;
		case 4:
			fd_close(&w->command[take(in, 1) % CLIENTS]);
			break;
		default:
			len = w->frame_len ? take(in, 1) : 0;
			/*
			 * The fuzzer repeats the frame 255 times only if the count is 255, because
			 * so many frames take long.
			 */
			for (len = len == 255 ? len : len % 8; len > 0; len--)
				send_bytes(w, w->frame, w->frame_len);
		}
	}
}

static void begin(struct world *w)
{
	static const struct step steps[2] = {{.kind = STEP_BARRIER, .text = "created"}};
	static const struct plan plan = {.steps = steps, .n = 2};
	static const struct plan_env env = {.bundle = "/bundle", .keyring = "_ses.id"};
	static struct arena arena;
	static struct strbuf orders;
	static const struct monitor_args args = {.plan = &plan,
		.env = &env,
		.id = "id",
		.orders = &orders,
		.arena = &arena,
		.tell_spans = true};
	int s[2], c[2];

	arena_release(&arena); /* frees the memory that the previous input of the fuzzer has used */
	*w = (struct world){.m = {.a = &args, .boot = {.deadline = 1}}};
	w->m.starter = w->m.start_lock = w->m.console = -EBADF;
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		w->m.clients[i].sock = -EBADF;
	for (unsigned i = 0; i < CLIENTS; i++)
		w->command[i] = -EBADF;
	if (streams_init(&w->m.streams) < 0 || channel_pair(c) < 0 ||
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s) < 0)
		abort();
	w->m.agent = s[0];
	w->guest = s[1];
	w->m.channel = c[0];
	w->runtime = c[1];
	if (ftruncate(log_file, 0) < 0)
		abort();
}

static unsigned log_lines(void)
{
	char text[4096];
	unsigned lines = 0;
	off_t at = 0;

	for (ssize_t n; (n = pread(log_file, text, sizeof(text), at)) > 0; at += n)
		for (ssize_t i = 0; i < n; i++)
			lines += text[i] == '\n';
	return lines;
}

static void end(struct world *w)
{
	for (unsigned i = 0; i < CLIENTS; i++) {
		client_close(&w->m.clients[i]);
		fd_close(&w->command[i]);
	}
	agent_reader_release(&w->m.reader);
	streams_release(&w->m.streams);
	fd_close(&w->m.agent);
	fd_close(&w->guest);
	fd_close(&w->m.channel);
	fd_close(&w->runtime);
	if (log_lines() > GUEST_LINES_MAX + 1)
		abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	char path[64];

	signal(SIGPIPE, SIG_IGN);
	log_file = memfd_create("log", MFD_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", log_file);
	return log_open(path, "json", false) < 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct world w; /* static, because struct world is too large for the stack */
	struct input in = {data, size};
	unsigned before = descriptors_below(256);

	begin(&w);
	play(&w, &in);
	end(&w);
	err_clear();
	if (descriptors_below(256) != before)
		abort();
	return 0;
}
