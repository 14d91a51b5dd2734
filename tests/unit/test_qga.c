/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the monitor's side of qemu-guest-agent against an agent that does what it should, lies, is
 * late, or says nothing: the connection (monitor/qga.c), the messages (monitor/qga_messages.c), and
 * what a command gets (monitor/foreign_qga.c). tests/fuzz/fuzz_qga.c attacks it with bytes, and
 * tests/vm/test_machine.py uses the real agent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

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
static void serve(void)
{
	for (;;) {
		struct pollfd p;
		qga_poll(&m.qga, &p);
		if (poll(&p, 1, 0) <= 0)
			return;
		qga_serve(&m.qga, p.revents);
	}
}

static void ask_with(const char *type, const char *arg, const void *blob, size_t len)
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

static void ask(const char *type)
{
	ask_with(type, "x", NULL, 0);
}

static void get(struct agent_frame *ret)
{
	struct agent_reader reader = {0};
	int r;

	while ((r = agent_reader_next(&reader, ret)) == 0)
		assert_int_equal(agent_reader_receive(&reader, command), 1);
	assert_int_equal(r, 1);
	assert_string_equal(ret->type, "reply");
	agent_reader_release(&reader);
}

static void replies_pid(int64_t expected)
{
	_cleanup_agent_frame_ struct agent_frame f = {0};
	int64_t pid;

	get(&f);
	assert_int_equal(json_get_i64(f.json, "pid", &pid), 0);
	assert_int_equal(pid, expected);
}

/* The command gets the answer that its request has failed, for a reason that has this text. */
static void fails(const char *text)
{
	_cleanup_agent_frame_ struct agent_frame f = {0};

	get(&f);
	assert_true(agent_failure(&f) < 0);
	if (!strstr(err_msg(), text))
		fail_msg("\"%s\" is not in \"%s\"", text, err_msg());
}

/* The command has got nothing yet. */
static void waits(void)
{
	char byte;

	assert_int_equal(recv(command, &byte, 1, MSG_DONTWAIT | MSG_PEEK), -1);
}

/* Reads what the monitor has sent to the agent, as text. */
static void hear(char text[static 65536])
{
	ssize_t n = recv(agent, text, 65535, 0);

	assert_true(n >= 0 || errno == EAGAIN);
	text[n > 0 ? n : 0] = '\0';
}

static void say(const char *text)
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
static int64_t hear_sync(void)
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
static void sync_with(const char *before, char ret[static 65536])
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

static void answers_to(const char *type, const char *answer)
{
	char request[65536];

	ask(type);
	sync_with("", request);
	say(answer);
}

static void runs_a_command(void **state)
{
	char request[65536];

	ask_with("qgaexec", "a \"b\" \xc3\xa4", "in", 2);
	/* What comes before the byte 0xFF is of an earlier request, and so is a wrong number. */
	sync_with("{\"return\": {}}\n{\"error\": {}}\n\xff{\"return\": 1}\ngarbage", request);
	assert_string_equal(request,
		"{\"execute\":\"guest-exec\",\"arguments\":{\"path\":\"/bin/cat\","
		"\"arg\":[\"a \\\"b\\\" \xc3\xa4\"],\"env\":[\"A=b\"],\"input-data\":\"aW4=\","
		"\"capture-output\":true}}\n");
	waits();
	say("{\"return\": {\"pid\"");
	waits();
	say(": 77}}\n");
	replies_pid(77);

	ask("qgastatus");
	sync_with("", request);
	assert_string_equal(
		request, "{\"execute\":\"guest-exec-status\",\"arguments\":{\"pid\":77}}\n");
	say("{\"return\": {\"exited\": false}}\n");
	_cleanup_agent_frame_ struct agent_frame g = {0};
	get(&g);
	assert_false(json_get_true(g.json, "exited"));
	assert_int_equal(agent_failure(&g), 0);
}

/* Starts a process, so that its status can be asked for. */
static void start(void)
{
	_cleanup_agent_frame_ struct agent_frame f = {0};

	answers_to("qgaexec", "{\"return\": {\"pid\": 5}}\n");
	get(&f);
	assert_int_equal(agent_failure(&f), 0);
}

/* The output comes in pieces that the socket holds, whatever the command does meanwhile. */
static void takes_output_in_pieces(void **state)
{
	_cleanup_strbuf_ struct strbuf text = {0}, all = {0};
	static uint8_t data[150000];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * i >> 8);
	assert_true(strbuf_addf(&text, "{\"return\":{\"exited\":true,\"exitcode\":3,"
				       "\"err-data\":\"ZXJy\",\"out-data\":\"") >= 0);
	assert_true(base64_encode(&text, data, sizeof(data)) >= 0);
	assert_true(strbuf_addf(&text, "\"}}\n") >= 0);
	start();
	answers_to("qgastatus", text.s);
	_cleanup_agent_frame_ struct agent_frame f = {0};
	int64_t status;
	get(&f);
	assert_true(json_get_true(f.json, "exited"));
	assert_int_equal(json_get_i64(f.json, "status", &status), 0);
	assert_int_equal(status, 3 << 8);
	for (unsigned pieces = 0;; pieces++) {
		_cleanup_agent_frame_ struct agent_frame g = {0};
		uint64_t stream;
		ask("qgaoutput");
		get(&g);
		assert_int_equal(json_get_u64(g.json, "stream", &stream), 0);
		assert_int_equal(stream, all.len < sizeof(data) ? 1 : 2);
		assert_true(g.blob_len <= 65536);
		assert_true(strbuf_add(&all, g.blob, g.blob_len) >= 0);
		if (!g.blob_len) {
			assert_int_equal(pieces, 4);
			break;
		}
	}
	assert_int_equal(all.len, sizeof(data) + 3);
	assert_memory_equal(all.s, data, sizeof(data));
	assert_memory_equal(all.s + sizeof(data), "err", 3);
}

static void wrong_answers(void **state)
{
	static const struct {
		const char *type, *answer, *error;
	} wrong[] = {
		{"qgainfo", "\n", "is empty"},
		{"qgainfo", "x\n", "not valid JSON"},
		{"qgainfo", "{\"return\": {}} {}\n", "not valid JSON"},
		{"qgainfo", "[]\n", "neither"},
		{"qgainfo", "{\"return\": {\"supported_commands\": {}}}\n", "supported_commands"},
		{"qgainfo",
			"{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no\x07such\"}}\n",
			"no"},
		{"qgainfo", "{\"error\": 1}\n", "failed"},
		{"qgaexec", "{\"return\": {}}\n", "pid"},
		{"qgaexec", "{\"return\": {\"pid\": 0}}\n", "pid"},
		{"qgaexec", "{\"return\": {\"pid\": 2147483648}}\n", "pid"},
		{"qgaexec", "{\"return\": {\"pid\": \"1\"}}\n", "pid"},
		{"qgastatus", "{\"return\": {}}\n", "exited"},
		{"qgastatus", "{\"return\": {\"exited\": 1}}\n", "exited"},
		{"qgastatus", "{\"return\": {\"exited\": true}}\n", "exitcode"},
		{"qgastatus", "{\"return\": {\"exited\": true, \"exitcode\": 256}}\n", "exitcode"},
		{"qgastatus", "{\"return\": {\"exited\": true, \"exitcode\": -1}}\n", "exitcode"},
		{"qgastatus", "{\"return\": {\"exited\": true, \"signal\": 65}}\n", "signal"},
		{"qgastatus", "{\"return\": {\"exited\": true, \"signal\": 9, \"exitcode\": 0}}\n",
			"exitcode"},
		{"qgastatus",
			"{\"return\": {\"exited\": true, \"exitcode\": 0, \"out-data\": 1}}\n",
			"out-data"},
		{"qgastatus",
			"{\"return\": {\"exited\": true, \"exitcode\": 0, \"err-data\": "
			"\"AB=C\"}}\n",
			"err-data"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		if (streq(wrong[i].type, "qgastatus"))
			start();
		answers_to(wrong[i].type, wrong[i].answer);
		fails(wrong[i].error);
		assert_int_equal(m.phase, PHASE_RUNNING);
		tear_down(NULL);
		set_up(NULL);
	}
}

static void long_answers(void **state)
{
	char request[65536], many[65536];
	const int64_t end = clock_ms() + QGA_SYNC_MS;

	/* Before the agent has answered, nothing that comes is kept. */
	memset(many, 'x', sizeof(many) - 1);
	many[sizeof(many) - 1] = '\0';
	ask("qgainfo");
	many[0] = '\xff';
	for (unsigned i = 0; i < 64; i++) {
		say(many);
		assert_true(m.qga.in.len <= 256);
	}
	waits();
	sync_with("\n", request);
	many[0] = '{';
	say(many);
	waits();
	say("xx");
	fails("longer than 65536 bytes");
	assert_int_equal(m.qga.in.len, 0);
	assert_int_equal(m.qga.state, QGA_IDLE);
	/* The rest of that answer does not become the answer of the next request. */
	ask("qgainfo");
	sync_with("\"}\n", request);
	say("{\"return\": {\"version\": \"1\\u001b[31m\", \"supported_commands\": "
	    "[1, {\"name\": 2}, {\"name\": \"guest-exec\", \"enabled\": true}]}}\n");
	_cleanup_agent_frame_ struct agent_frame f = {0};
	get(&f);
	assert_true(json_get_true(f.json, "exec"));
	assert_string_equal(json_get_str(f.json, "version"), "1?[31m");
	assert_true(clock_ms() < end || m.qga.deadline == 0);
}

static void an_agent_that_is_silent(void **state)
{
	char request[65536];

	ask("qgainfo");
	hear_sync();
	const int64_t deadline = m.qga.deadline;
	assert_true(deadline > clock_ms());
	qga_check_deadline(&m.qga, deadline - 1);
	waits();
	qga_check_deadline(&m.qga, deadline);
	fails("does not answer");
	/* Of the request itself the agent has got nothing that it could do later. */
	hear(request);
	assert_string_equal(request, "");

	answers_to("qgainfo", "");
	qga_check_deadline(&m.qga, m.qga.deadline);
	fails("60 seconds");
	/* The late answer is not that to the next request. */
	ask("qgaexec");
	sync_with("{\"return\": {\"pid\": 1}}\n", request);
	say("{\"return\": {\"pid\": 2}}\n");
	replies_pid(2);
}

static void an_agent_that_goes(void **state)
{
	ask("qgainfo");
	hear_sync();
	open_port = false;
	foreign_qga_on_port(&m);
	fails("has ended");
	/* monitor_on_client() closes the connection of a command whose request it refuses. */
	ask("qgainfo");
	fails("no qemu-guest-agent answers");
	assert_true(m.clients[0].sock < 0);
	tear_down(NULL);
	set_up(NULL);

	ask("qgainfo");
	fd_close(&agent);
	serve();
	fails("has ended");
	assert_true(m.qga.sock < 0);
	ask("qgainfo");
	fails("no qemu-guest-agent answers");
}

/* Makes another command, which asks for something. Returns the other end of its connection. */
static int ask_as(size_t i, const char *type)
{
	int s[2], before = command;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	m.clients[i].sock = s[0];
	command = s[1];
	_cleanup_agent_writer_ struct agent_writer w = {0};
	assert_int_equal(agent_begin(&w, type), 0);
	assert_int_equal(agent_send(&w, command, NULL, 0), 0);
	monitor_on_client(&m, &m.clients[i]);
	command = before;
	return s[1];
}

/* Ends the command, as Ctrl-C does. */
static void end_command(size_t i, int *sock)
{
	fd_close(sock);
	monitor_on_client(&m, &m.clients[i]);
	assert_true(m.clients[i].sock < 0);
}

/* Requests of several commands do not mix, and one of a command that has ended harms no other. */
static void requests_queue(void **state)
{
	char request[65536];

	ask("qgaexec");
	sync_with("", request);
	assert_non_null(strstr(request, "guest-exec"));
	int other = ask_as(1, "qgainfo");
	assert_int_equal(m.qga.n, 2);
	end_command(0, &command);
	assert_int_equal(m.qga.n, 2);
	command = other;
	say("{\"return\": {\"pid\": 1}}\n");
	waits();
	sync_with("", request);
	assert_string_equal(request, "{\"execute\":\"guest-info\",\"arguments\":{}}\n");
	say("{\"return\": {\"supported_commands\": []}}\n");
	_cleanup_agent_frame_ struct agent_frame f = {0};
	get(&f);
	assert_int_equal(agent_failure(&f), 0);
	assert_false(json_get_true(f.json, "exec"));
	client_close(&m.clients[1]);
}

/* A command that somebody has interrupted before the agent was sent it does not run later. */
static void interrupted_commands(void **state)
{
	char request[65536];
	int info, late;

	ask("qgaexec");
	info = ask_as(1, "qgainfo");
	late = ask_as(2, "qgainfo");
	assert_int_equal(m.qga.n, 3);
	end_command(2, &late);
	end_command(0, &command);
	assert_int_equal(m.qga.n, 1);
	command = info;
	sync_with("", request);
	assert_string_equal(request, "{\"execute\":\"guest-info\",\"arguments\":{}}\n");
	say("{\"return\": {\"supported_commands\": []}}\n");
	_cleanup_agent_frame_ struct agent_frame f = {0};
	get(&f);
	assert_int_equal(agent_failure(&f), 0);

	info = ask_as(0, "qgainfo");
	hear_sync();
	end_command(0, &info);
	assert_int_equal(m.qga.state, QGA_IDLE);
	assert_int_equal(m.qga.deadline, 0);
	client_close(&m.clients[1]);
}

/* An answer of many small values is refused before it costs the monitor memory and time. */
static void answers_of_many_values(void **state)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	start();
	assert_int_equal(strbuf_addf(&text, "{\"return\":[0"), 0);
	for (unsigned i = 0; i < 100000; i++)
		assert_int_equal(strbuf_add(&text, ",0", 2), 0);
	assert_int_equal(strbuf_addf(&text, "]}\n"), 0);
	answers_to("qgastatus", text.s);
	fails("values");
}

/* A second status can have less output than the command has taken of the first. */
static void output_that_shrinks(void **state)
{
	start();
	answers_to("qgastatus",
		"{\"return\": {\"exited\": true, \"exitcode\": 0, \"out-data\": \"YWJj\"}}\n");
	_cleanup_agent_frame_ struct agent_frame f = {0}, g = {0}, h = {0}, i = {0};
	get(&f);
	ask("qgaoutput");
	get(&g);
	assert_int_equal(g.blob_len, 3);
	answers_to("qgastatus", "{\"return\": {\"exited\": false}}\n");
	get(&h);
	ask("qgaoutput");
	get(&i);
	assert_int_equal(i.blob_len, 0);
}

/* A command asks only for a process of its own. */
static void wrong_order(void **state)
{
	ask("qgastatus");
	fails("qgaexec");
	tear_down(NULL);
	set_up(NULL);
	start();
	ask("qgaexec");
	fails("one qgaexec");
	tear_down(NULL);
	set_up(NULL);
	ask("qgainfo");
	ask("qgainfo");
	fails("waits for a reply");
	tear_down(NULL);
	set_up(NULL);
	ask("qgafsfreeze");
	fails("unknown request");
}

/*
 * The agent is asked to power off beside the power button, once. If it succeeds it answers nothing,
 * and the next request does not wait for it.
 */
static void shuts_down(void **state)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	char request[65536];

	assert_int_equal(agent_begin(&w, "signal"), 0);
	json_out_i64(&w.json, "signal", SIGTERM);
	assert_int_equal(agent_send(&w, command, NULL, 0), 0);
	monitor_on_client(&m, &m.clients[0]);
	_cleanup_agent_frame_ struct agent_frame f = {0};
	get(&f);
	assert_int_equal(pressed, 1);
	sync_with("", request);
	assert_string_equal(request,
		"{\"execute\":\"guest-shutdown\",\"arguments\":{\"mode\":\"powerdown\"}}\n");
	assert_int_equal(m.qga.state, QGA_IDLE);
	foreign_qga_shut_down(&m);
	hear(request);
	assert_string_equal(request, "");
	answers_to("qgainfo", "{\"return\": {\"supported_commands\": []}}\n");
	_cleanup_agent_frame_ struct agent_frame g = {0};
	get(&g);
	assert_int_equal(agent_failure(&g), 0);
}

static unsigned done;

static void on_long_done(void *ctx, uint64_t id, int r, const struct json *answer)
{
	assert_int_equal(r, 0);
	assert_int_equal(id, 9);
	assert_non_null(answer);
	done++;
}

/* A request that is longer than the socket holds is sent in parts, as the agent reads it. */
static void long_requests(void **state)
{
	struct qga_request q = {.answer_max = QGA_ANSWER_MAX, .id = 9};
	char request[65536];
	size_t heard = 0;

	done = 0;
	m.qga.done = on_long_done;
	for (unsigned i = 0; i < 1 << 16; i++)
		assert_int_equal(strbuf_addf(&q.line, "%16u", i), 0);
	assert_int_equal(strbuf_addf(&q.line, "\n"), 0);
	assert_int_equal(qga_ask(&m.qga, &q), 0);
	sync_with("", request);
	assert_true(m.qga.sent < m.qga.out.len);
	for (unsigned i = 0; i < 1000; i++) {
		heard += strlen(request);
		serve();
		hear(request);
	}
	assert_int_equal(heard, (16 << 16) + 1);
	say("{\"return\": {}}\n");
	assert_int_equal(done, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(runs_a_command),
		TEST(takes_output_in_pieces),
		TEST(wrong_answers),
		TEST(long_answers),
		TEST(an_agent_that_is_silent),
		TEST(an_agent_that_goes),
		TEST(requests_queue),
		TEST(interrupted_commands),
		TEST(answers_of_many_values),
		TEST(output_that_shrinks),
		TEST(wrong_order),
		TEST(shuts_down),
		TEST(long_requests),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
