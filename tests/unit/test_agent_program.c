/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the form in which the agent of a machine gets the program of an exec: nothing is lost on
 * the way, and a blob that is not as agent/program.h says is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "agent/program.h"

#define LIST(...) \
	{ \
		(const char *const[]){__VA_ARGS__, NULL}, \
			ARRAY_SIZE(((const char *[]){__VA_ARGS__})) \
	}

static void assert_list(const struct spec_strings *got, const struct spec_strings *want)
{
	assert_int_equal(got->n, want->n);
	for (size_t i = 0; i < want->n; i++)
		assert_string_equal(got->v[i], want->v[i]);
	assert_null(got->v[got->n]);
}

static void programs_survive(void **state)
{
	static const uint32_t groups[] = {5, 4294967294};
	/* The last argument is not UTF-8, and the one before it is empty. */
	const struct spec_process p = {.args = LIST("sh", "-c", "a=b\nc", "", "\xff\x80"),
		.env = LIST("A=1", "B==", "C="),
		.cwd = "/a=b",
		.terminal = true,
		.console_height = 24,
		.console_width = 65535,
		.no_new_privileges = true,
		.user = {.uid = 33,
			.gid = 4294967294,
			.additional_gids = groups,
			.nadditional_gids = ARRAY_SIZE(groups)}};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf blob = {0};
	struct spec_process got;

	assert_int_equal(agent_program_pack(&p, &blob), 0);
	assert_int_equal(agent_program_unpack(&a, blob.s, blob.len, &got), 0);
	assert_list(&got.args, &p.args);
	assert_list(&got.env, &p.env);
	assert_string_equal(got.cwd, p.cwd);
	assert_true(got.terminal && got.no_new_privileges);
	assert_int_equal(got.console_height, 24);
	assert_int_equal(got.console_width, 65535);
	assert_int_equal(got.user.uid, 33);
	assert_int_equal(got.user.gid, 4294967294);
	assert_int_equal(got.user.nadditional_gids, ARRAY_SIZE(groups));
	assert_memory_equal(got.user.additional_gids, groups, sizeof(groups));
}

static void what_is_missing_is_off(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	struct spec_process got;

	assert_int_equal(agent_program_unpack(&a, "arg=id", 7, &got), 0);
	assert_int_equal(got.args.n, 1);
	assert_int_equal(got.env.n, 0);
	assert_null(got.env.v[0]);
	assert_string_equal(got.cwd, "/");
	assert_false(got.terminal || got.no_new_privileges || got.user.uid || got.user.gid);
	assert_false(got.console_height || got.console_width || got.user.nadditional_gids);
}

static void bad_blobs_are_refused(void **state)
{
	static const struct {
		const char *text;
		size_t len;
		const char *message;
	} bad[] = {
		{"", 0, "end in a NUL"},
		{"arg=id", 6, "end in a NUL"},
		{"\0", 1, "NAME=VALUE"},
		{"env=A=1", 8, "expected an argument"},
		{"arg=", 5, "expected an argument"},
		{"arg=id\0what=1", 14, "\"what\", which this agent does not know"},
		{"arg=id\0uid", 11, "NAME=VALUE"},
		{"arg=id\0uid=x", 13, "expected a number"},
		{"arg=id\0uid=-1", 14, "expected a number"},
		{"arg=id\0gid=4294967295", 22, "up to 4294967294"},
		{"arg=id\0group=4294967295", 24, "up to 4294967294"},
		{"arg=id\0rows=65536", 18, "up to 65535"},
		{"arg=id\0terminal=2", 18, "up to 1"},
		{"arg=id\0cwd=tmp", 15, "absolute path"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_arena_ struct arena a = {0};
		struct spec_process got;
		assert_int_equal(agent_program_unpack(&a, bad[i].text, bad[i].len, &got), -EPROTO);
		assert_non_null(strstr(err_msg(), bad[i].message));
	}
}

static void too_many_words_are_refused(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf blob = {0};
	struct spec_process got;

	for (size_t i = 0; i < AGENT_PROGRAM_WORDS_MAX; i++)
		assert_int_equal(strbuf_add(&blob, "arg=x", 6), 0);
	assert_int_equal(agent_program_unpack(&a, blob.s, blob.len, &got), 0);
	assert_int_equal(got.args.n, AGENT_PROGRAM_WORDS_MAX);
	assert_int_equal(strbuf_add(&blob, "arg=x", 6), 0);
	assert_int_equal(agent_program_unpack(&a, blob.s, blob.len, &got), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(programs_survive),
		cmocka_unit_test(what_is_missing_is_off),
		cmocka_unit_test(bad_blobs_are_refused),
		cmocka_unit_test(too_many_words_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
