/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests what `caisson ps` prints for a text of /proc/PID/stat; tests/cli/test_lifecycle.py compares
 * its output with ps(1).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cmd/ps_table.h"

/* Parses a line with the 22 fields of a process that has started 1000 s after the boot. */
static int parse(const char *name, char state, int tty, unsigned ticks, struct ps_row *row)
{
	/* In these tests the time is 1 January 2020, and the machine was booted 2000 s before. */
	const struct ps_clock clock = {.now = 157783680000, .up = 200000};
	char text[256], *ret_name, ret_state;

	snprintf(text, sizeof(text),
		"1234 (%s) %c 1 2 3 %d 4 5 6 7 8 9 %u 11 12 13 14 15 16 17 100000 19", name, state,
		tty, ticks);
	int r = ps_parse_stat(text, &clock, row, &ret_name, &ret_state);
	if (r < 0)
		return r;
	assert_string_equal(ret_name, name);
	assert_int_equal(ret_state, state);
	return 0;
}

static void test_fields(void **state)
{
	struct ps_row row;

	assert_int_equal(parse("sleep", 'S', 0, 0, &row), 0);
	assert_int_equal(row.pid, 1234);
	assert_int_equal(row.ppid, 1);
	/* the process started 1000 s before the time that these tests take for now */
	assert_int_equal(row.start, 1577835800);
	assert_int_equal(row.seconds, 0);
	assert_int_equal(row.cpu, 0);
	assert_string_equal(row.tty, "?");
	/*
	 * A process may choose any name, even one that looks like the end of a line of
	 * /proc/PID/stat.
	 */
	assert_int_equal(parse(") R 9 9 (a b", 'Z', 0, 0, &row), 0);
	assert_int_equal(row.ppid, 1);
}

static void test_processor_time(void **state)
{
	struct ps_row row;

	/* the process has used 500 s of CPU time in the 1000 s since its start */
	assert_int_equal(parse("a", 'R', 0, 50000, &row), 0);
	assert_int_equal(row.cpu, 50);
	assert_int_equal(row.seconds, 500);
	/*
	 * Threads of the process have run on four processors at once, so its CPU time is longer
	 * than the time since its start.
	 */
	assert_int_equal(parse("a", 'R', 0, 400000, &row), 0);
	assert_int_equal(row.cpu, 99);
}

static void test_terminals(void **state)
{
	static const struct {
		int device;
		const char *name;
	} terminals[] = {{0x8805, "pts/5"}, {0x1088ff, "pts/511"}, {0x8800, "pts/0"},
		{0x8901, "pts/1048577"}, {0x0401, "tty1"}, {0x0440, "ttyS0"}, {0x0441, "ttyS1"},
		{0xfff00f0f, "?"}};
	struct ps_row row;

	for (size_t i = 0; i < ARRAY_SIZE(terminals); i++) {
		assert_int_equal(parse("a", 'S', terminals[i].device, 0, &row), 0);
		assert_string_equal(row.tty, terminals[i].name);
	}
}

static void test_broken(void **state)
{
	static const char *const texts[] = {"", "1", "1 (a", "1 a) S 1", "1 (a) S 1 2 3", ")("};
	const struct ps_clock clock = {0};
	char text[64], *name, process_state;
	struct ps_row row;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		snprintf(text, sizeof(text), "%s", texts[i]);
		assert_true(ps_parse_stat(text, &clock, &row, &name, &process_state) < 0);
	}
}

static void assert_row(const struct ps_row *row, const char *want)
{
	_cleanup_strbuf_ struct strbuf out = {0};

	assert_int_equal(ps_table_add(&out, row), 0);
	assert_string_equal(out.s, want);
}

static void test_rows(void **state)
{
	struct ps_row row = {
		.user = "root", .pid = 1, .start = 1577836800, .tty = "pts/0", .command = "a b"};
	_cleanup_strbuf_ struct strbuf head = {0};

	assert_int_equal(ps_table_head(&head), 0);
	assert_string_equal(head.s, "UID          PID    PPID  C STIME TTY          TIME CMD\n");
	assert_row(&row, "root           1       0  0  2020 pts/0    00:00:00 a b\n");
	row = (struct ps_row){.user = "systemd-network",
		.pid = 4194303,
		.ppid = 4194302,
		.cpu = 7,
		.start = time(NULL),
		.tty = "?",
		.seconds = 3 * 86400 + 2 * 3600 + 61,
		.command = ""};
	char want[128], now[16];
	struct tm tm;
	localtime_r(&row.start, &tm);
	strftime(now, sizeof(now), "%H:%M", &tm);
	snprintf(want, sizeof(want), "systemd+ 4194303 4194302  7 %s ?        3-02:01:01 \n", now);
	assert_row(&row, want);
	row = (struct ps_row){
		.user = "4294967295", .tty = "?", .start = 1577836800, .command = "a"};
	assert_row(&row, "4294967295       0       0  0  2020 ?        00:00:00 a\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_processor_time),
		cmocka_unit_test(test_terminals),
		cmocka_unit_test(test_broken),
		cmocka_unit_test(test_rows),
	};
	return cmocka_run_group_tests_name("ps_table", tests, NULL, NULL);
}
