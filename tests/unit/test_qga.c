/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the monitor's side of qemu-guest-agent against an agent that does what it should, is late,
 * or says nothing: the connection (monitor/qga.c), and what a command gets (monitor/foreign_qga.c).
 * tests/unit/test_qga_messages.c has an agent that lies, and tests/vm/test_machine.py the real one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>

#include "unit/rig/qga.h"

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
		TEST(an_agent_that_is_silent),
		TEST(an_agent_that_goes),
		TEST(requests_queue),
		TEST(interrupted_commands),
		TEST(wrong_order),
		TEST(shuts_down),
		TEST(long_requests),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
