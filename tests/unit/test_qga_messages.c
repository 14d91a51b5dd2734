/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests what the monitor makes of wrong, long and strange answers of qemu-guest-agent
 * (monitor/qga_messages.c). tests/fuzz/fuzz_qga.c attacks it with bytes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>

#include "unit/rig/qga.h"

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

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(wrong_answers),
		TEST(long_answers),
		TEST(answers_of_many_values),
		TEST(output_that_shrinks),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
