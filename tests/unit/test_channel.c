/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the messages between caisson and the container's first process: what one side still
 * receives after the other side has ended, and how messages are parsed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/fd.h"
#include "ns/channel.h"

/*
 * Sends a message from each end of the channel, and closes the end s[1] before it has read the
 * message of s[0]. The kernel then reports a reset at s[0] before it delivers the message of s[1].
 */
static void end_with_unread_message(int s[2], enum channel_type type, int code)
{
	assert_int_equal(channel_pair(s), 0);
	assert_true(channel_send(s[0], CHANNEL_REACHED, 0, "mapped", -EBADF) >= 0);
	assert_true(channel_send(s[1], type, code, "why", -EBADF) >= 0);
	fd_close(&s[1]);
}

static void test_runtime_gets_the_last_message(void **state)
{
	struct channel_msg m;
	int s[2], fd;

	end_with_unread_message(s, CHANNEL_FAILED, -EPERM);
	assert_int_equal(channel_recv(s[0], &m, &fd), 1);
	assert_int_equal(m.type, CHANNEL_FAILED);
	assert_int_equal(m.code, -EPERM);
	assert_string_equal(m.text, "why");
	assert_int_equal(channel_recv(s[0], &m, &fd), 0);
	fd_close(&s[0]);
}

static void test_init_gets_the_last_message(void **state)
{
	int s[2];

	end_with_unread_message(s, CHANNEL_REACHED, 0);
	assert_int_equal(channel_await(s[0], "why"), 1);
	assert_int_equal(channel_await(s[0], "why"), 0);
	fd_close(&s[0]);
}

static void test_end_without_a_message(void **state)
{
	struct channel_msg m;
	int s[2], fd;

	assert_int_equal(channel_pair(s), 0);
	assert_true(channel_send(s[0], CHANNEL_REACHED, 0, "mapped", -EBADF) >= 0);
	fd_close(&s[1]);
	assert_int_equal(channel_recv(s[0], &m, &fd), 0);
	fd_close(&s[0]);
}

static void test_span(void **state)
{
	static const char *const malformed[] = {
		"", "1", "1 2", "1 2 0", "x 2 0 1 name", "1 2 0 x name"};
	const struct channel_span sent = {.place = 2,
		.begin = 7,
		.end = UINT64_MAX,
		.waits = true,
		.number = 3,
		.name = "two words"};
	struct channel_span got;
	struct channel_msg m;
	int s[2], fd;

	assert_int_equal(channel_pair(s), 0);
	assert_int_equal(channel_report_span(s[0], &sent), 0);
	assert_int_equal(channel_recv(s[1], &m, &fd), 1);
	assert_int_equal(channel_read_span(&m, &got), 0);
	assert_true(got.place == 2 && got.begin == 7 && got.end == UINT64_MAX && got.waits);
	assert_int_equal(got.number, 3);
	assert_string_equal(got.name, "two words");
	for (size_t i = 0; i < ARRAY_SIZE(malformed); i++) {
		strcpy(m.text, malformed[i]);
		assert_int_equal(channel_read_span(&m, &got), -EPROTO);
	}
	fd_close(&s[0]);
	fd_close(&s[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runtime_gets_the_last_message),
		cmocka_unit_test(test_init_gets_the_last_message),
		cmocka_unit_test(test_end_without_a_message),
		cmocka_unit_test(test_span),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
