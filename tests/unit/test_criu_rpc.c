/* SPDX-License-Identifier: Apache-2.0 */
/* Tests the messages that caisson exchanges with CRIU, against bytes that protoc made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "launch/criu_rpc.h"

static void expect(struct criu_message *m, const char *bytes, size_t len)
{
	assert_int_equal(m->failed, 0);
	assert_int_equal(m->bytes.len, len);
	assert_memory_equal(m->bytes.s, bytes, len);
	criu_message_release(m);
}

static void test_fields(void **state)
{
	struct criu_message m = {0};

	criu_put_number(&m, CRIU_PID, 300);
	criu_put_flag(&m, CRIU_SHELL_JOB, true);
	criu_put_flag(&m, CRIU_FILE_LOCKS, false);
	criu_put_text(&m, CRIU_LOG_FILE, "dump.log");
	criu_put_text(&m, CRIU_ROOT, NULL);
	expect(&m,
		"\x10\xac\x02\x38\x01\x52\x08"
		"dump.log",
		15);
	m = (struct criu_message){0};
	criu_put_number(&m, CRIU_IMAGES_DIR_FD, UINT64_MAX);
	expect(&m, "\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
}

static void test_messages_in_messages(void **state)
{
	struct criu_message m = {0};

	criu_put_pair(&m, CRIU_EXT_MNT, "/data", "/src");
	criu_put_pair(&m, CRIU_CG_ROOT, NULL, "/cg");
	criu_put_numbered(&m, CRIU_INHERIT_FD, "pipe:[7]", 2);
	expect(&m,
		"\xba\x01\x0d\x0a\x05/data\x12\x04/src"
		"\xca\x01\x05\x12\x03/cg"
		"\xda\x01\x0c\x0a\x08pipe:[7]\x10\x02",
		39);
}

/* A failed restore with a message, and with the pid -1. */
static const char failure[] = "\x08\x02\x10\x00\x22\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
			      "\x38\x02\x4a\x07no\nway\n";
static const char notification[] = "\x08\x06\x10\x01\x2a\x11\x0a\x0cpost-restore\x10\xac\x02";

static void test_replies(void **state)
{
	struct criu_reply r;

	assert_int_equal(criu_read_reply(failure, sizeof(failure) - 1, &r), 0);
	assert_int_equal(r.type, CRIU_RESTORE);
	assert_false(r.success);
	assert_int_equal(r.pid, 0);
	assert_string_equal(r.message, "no|way");
	assert_int_equal(criu_read_reply(notification, sizeof(notification) - 1, &r), 0);
	assert_int_equal(r.type, CRIU_NOTIFY);
	assert_true(r.success);
	assert_string_equal(r.script, "post-restore");
	assert_int_equal(r.pid, 300);
	assert_int_equal(criu_read_reply("\x08\x02\x10\x01\x22\x02\x08\x2a", 8, &r), 0);
	assert_int_equal(r.pid, 42);
}

/* Every prefix and every changed byte is either read or refused, which ASan watches. */
static void test_damaged_replies(void **state)
{
	struct criu_reply r;

	for (size_t len = 0; len < sizeof(notification) - 1; len++) {
		char *copy = malloc(len + 1);
		memcpy(copy, notification, len);
		copy = realloc(copy, len ? len : 1);
		(void)!criu_read_reply(copy, len, &r);
		for (size_t i = 0; i < len; i++)
			for (unsigned v = 0; v < 256; v++) {
				copy[i] = (char)v;
				(void)!criu_read_reply(copy, len, &r);
				copy[i] = notification[i];
			}
		free(copy);
	}
	/* a text that is longer than the message, and a number without an end */
	assert_int_equal(criu_read_reply("\x4a\x05no", 4, &r), -EBADMSG);
	assert_int_equal(
		criu_read_reply("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12, &r),
		-EBADMSG);
	assert_int_equal(criu_read_reply("\x0b", 1, &r), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fields),
		cmocka_unit_test(test_messages_in_messages),
		cmocka_unit_test(test_replies),
		cmocka_unit_test(test_damaged_replies),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
