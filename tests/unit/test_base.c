/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include <sys/socket.h>

#include "base/crc32c.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/path.h"
#include "base/str.h"
#include "base/user.h"
#include "unit/rig/child.h"

static void check_content(int dir, const char *name, const char *want)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	assert_int_equal(fd_read_file(dir, name, &text, 4096), 0);
	assert_string_equal(strbuf_str(&text), want);
}

/*
 * Checks that fd_replace_file() leaves a file alone that has the fixed temporary name which caisson
 * once used, and that it writes through a symbolic link instead of replacing it.
 */
static void test_replace_file(void **state)
{
	char dir_path[] = "/tmp/caisson-replace-XXXXXX", longest[256], name[FD_TMP_MAX];
	struct stat st;

	assert_non_null(mkdtemp(dir_path));
	int dir = open(dir_path, O_RDONLY | O_DIRECTORY);
	assert_int_equal(fd_replace_file(dir, "f.tmp", "kept", 4, 0600), 0);
	assert_int_equal(fd_replace_file(dir, "f", "one", 3, 0600), 0);
	assert_int_equal(fd_replace_file(dir, "f", "two", 3, 0600), 0);
	check_content(dir, "f", "two");
	check_content(dir, "f.tmp", "kept");
	assert_int_equal(symlinkat("f", dir, "link"), 0);
	assert_int_equal(fd_replace_file(dir, "link", "3", 1, 0600), 0);
	check_content(dir, "f", "3");
	assert_int_equal(mkfifoat(dir, "fifo", 0600), 0);
	assert_int_equal(fd_replace_file(dir, "fifo", "4", 1, 0600), -ENXIO);
	assert_int_equal(fstatat(dir, "fifo", &st, 0), 0);
	assert_true(S_ISFIFO(st.st_mode));
	memset(longest, 'x', 255);
	longest[255] = '\0';
	assert_int_equal(fd_replace_file(dir, longest, "5", 1, 0600), 0);
	int fd = fd_open_temporary(dir, "f", 0600, name);
	assert_true(fd >= 0 && fd_is_temporary_name(name));
	assert_false(fd_is_temporary_name("f") || fd_is_temporary_name(".caisson-x"));
	close(fd);
	for (size_t i = 0; i < 6; i++)
		assert_int_equal(
			unlinkat(dir,
				(const char *[]){"f", "f.tmp", "link", "fifo", longest, name}[i],
				0),
			0);
	close(dir);
	assert_int_equal(rmdir(dir_path), 0);
}

/*
 * Checks crc32c() against the check value of CRC-32C, and that the checksum is the same if the text
 * is summed in two parts of any length.
 */
static void test_crc32c(void **state)
{
	const char *text = "123456789";

	assert_int_equal(crc32c(0, text, 9), 0xe3069283);
	for (size_t n = 0; n <= 9; n++)
		assert_int_equal(crc32c(crc32c(0, text, n), text + n, 9 - n), 0xe3069283);
}

static void test_sizes(void **state)
{
	static const struct {
		const char *text;
		uint64_t size;
	} good[] = {{"0", 0}, {"18446744073709551615", UINT64_MAX}, {"512", 512}, {"10b", 10},
		{"3k", 3072}, {"3 kB", 3072}, {"10MiB", 10 << 20}, {"1.5g", 3ULL << 29},
		{".5m", 1 << 19}, {"2.", 2}, {"1.9", 1}, {"2T", 2ULL << 40}, {"1p", 1ULL << 50}};
	static const char *const bad[] = {"", "b", ".", "1.2.3", "-1", "1e3", "1  k", "10bb",
		"10bib", "10kibb", "10x", "10ki", "k10", "18446744073709551616", "16777216t"};
	uint64_t n;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(str_to_size(good[i].text, &n), 0);
		assert_int_equal(n, good[i].size);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (str_to_size(bad[i], &n) >= 0)
			fail_msg("\"%s\" was taken for %llu", bad[i], (unsigned long long)n);
}

static void test_json_booleans(void **state)
{
	static const char text[] = "{\"t\": true, \"f\": false, \"s\": \"true\", \"n\": 1, "
				   "\"a\": [true], \"o\": {\"t\": true}, \"z\": null}";
	_cleanup_arena_ struct arena a = {0};
	struct json *j;

	assert_int_equal(json_parse(&a, text, strlen(text), "text", &j), 0);
	assert_true(json_get_true(j, "t"));
	for (const char *key = "fsnaozx"; *key; key++)
		assert_false(json_get_true(j, (char[]){*key, '\0'}));
	assert_false(json_get_true(NULL, "t"));
}

static void test_numbers(void **state)
{
	uint64_t u;
	int64_t i;

	assert_int_equal(str_to_u64("18446744073709551615", &u), 0);
	assert_true(u == UINT64_MAX);
	assert_int_equal(str_to_u64("18446744073709551616", &u), -ERANGE);
	assert_int_equal(str_to_i64("-9223372036854775808", &i), 0);
	assert_true(i == INT64_MIN);
	assert_int_equal(str_to_i64("9223372036854775808", &i), -ERANGE);
	const char *bad[] = {"", "-", "+1", " 1", "1 ", "0x1", "1e3", "1.0"};
	for (size_t n = 0; n < ARRAY_SIZE(bad); n++)
		assert_int_equal(str_to_i64(bad[n], &i), -EINVAL);
}

static void test_signals(void **state)
{
	assert_int_equal(str_to_signal("SIGTERM"), SIGTERM);
	assert_int_equal(str_to_signal("term"), SIGTERM);
	assert_int_equal(str_to_signal("9"), SIGKILL);
	assert_int_equal(str_to_signal("RTMIN+3"), SIGRTMIN + 3);
	assert_int_equal(str_to_signal("SIGRTMAX-1"), SIGRTMAX - 1);
	const char *bad[] = {"", "0", "65", "-9", "SIG", "RTMIN+99", "RTMIN3", "NOPE"};
	for (size_t n = 0; n < ARRAY_SIZE(bad); n++)
		assert_int_equal(str_to_signal(bad[n]), -EINVAL);
}

static void test_bitlist(void **state)
{
	unsigned long mask[2];

	assert_int_equal(str_to_bitlist("0-2,64", mask, 128), 0);
	assert_true(mask[0] == 7 && mask[1] == 1);
	const char *bad[] = {"a", "1-", "3-1", "1,", ",1", "-1", "1;2"};
	for (size_t n = 0; n < ARRAY_SIZE(bad); n++)
		assert_int_equal(str_to_bitlist(bad[n], mask, 128), -EINVAL);
	assert_int_equal(str_to_bitlist("128", mask, 128), -ERANGE);
}

static void test_quote_end(void **state)
{
	static const struct {
		const char *said, *quoted;
	} cases[] = {
		{"", ""},
		{"\n\r\n", ""},
		{"one", "one"},
		{"one\r\ntwo\n\n", "one|two"},
		{"\033[2J\a\x7f", "?[2J??"},
		{"0123456789abcde", "0123456789abcde"},
		{"0123456789abcdef", "123456789abcdef"},
		{"x0123456789abcdef\n", "123456789abcdef"},
		{"\xc3\xa9", "\xc3\xa9"},
	};
	char line[16];

	for (size_t n = 0; n < ARRAY_SIZE(cases); n++) {
		str_quote_end(line, sizeof(line), cases[n].said, strlen(cases[n].said));
		assert_string_equal(line, cases[n].quoted);
	}
	str_quote_end(line, sizeof(line), "a\0b", 3);
	assert_string_equal(line, "a?b");
	str_quote_end(line, 1, "abc", 3);
	assert_string_equal(line, "");
}

static void test_errors(void **state)
{
	char big[2 * ERR_MAX];

	assert_int_equal(err_set(EPERM, "inner %d", 1), -EPERM);
	assert_int_equal(err_ctx(-EPERM, "mounts[%d]", 2), -EPERM);
	assert_string_equal(err_msg(), "mounts[2]: inner 1");
	err_set(EIO, "again: %s", err_msg());
	assert_string_equal(err_msg(), "again: mounts[2]: inner 1");
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	err_set(EIO, "%s", big);
	assert_int_equal(strlen(err_msg()), ERR_MAX - 1);
	assert_string_equal(err_msg() + ERR_MAX - 4, "...");
}

static int parse(const char *text, struct arena *a, struct json **ret)
{
	return json_parse(a, text, strlen(text), "t", ret);
}

static void test_json(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	struct json *n;
	uint64_t u;

	assert_int_equal(parse("{\"a\": [1, \"x\"], \"b\": 18446744073709551615}", &a, &n), 0);
	assert_int_equal(json_get(n, "a")->count, 2);
	assert_int_equal(json_get_u64(n, "b", &u), 0);
	assert_true(u == UINT64_MAX);
	const char *bad[] = {"", "{", "[1,]", "{\"a\":1,\"a\":2}", "\"\\u0000\"", "\"\xff\"", "1 2",
		"nul", "   "};
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse(bad[i], &a, &n), -EINVAL);
	char deep[20001];
	memset(deep, '[', 20000);
	deep[20000] = '\0';
	assert_int_equal(parse(deep, &a, &n), -EINVAL);
	assert_non_null(strstr(err_msg(), "not valid JSON"));
}

static void test_foreign_text(void **state)
{
	static const struct {
		const char *in, *clean, *quoted;
	} rows[] = {
		{"", "", "\"\""},
		{"plain \xc3\xbc \xe2\x82\xac \xf0\x9f\x8e\x89",
			"plain \xc3\xbc \xe2\x82\xac \xf0\x9f\x8e\x89",
			"\"plain \xc3\xbc \xe2\x82\xac \xf0\x9f\x8e\x89\""},
		{"a\nlevel=error msg=\"b\"\\", "a|level=error msg=\"b\"\\",
			"\"a\\nlevel=error msg=\\\"b\\\"\\\\\""},
		{"\x1b[2J\t\r\x7f\x01", "?[2J???", "\"\\x1b[2J\\t\\r\\x7f\\x01\""},
		{"\xc2\x9b"
		 "2J\xc2\x80\xc2\xa0",
			"?2J?\xc2\xa0", "\"\\u009b2J\\u0080\xc2\xa0\""},
		{"\x9b\xff\xc0\x80\xed\xa0\x80\xe2\x82", "?????????",
			"\"\\x9b\\xff\\xc0\\x80\\xed\\xa0\\x80\\xe2\\x82\""},
		{"\xe2\x80\xae"
		 "x\xe2\x80\xa8y",
			"?x?y", "\"\\u202ex\\u2028y\""},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_strbuf_ struct strbuf quoted = {0};
		char clean[64];
		str_clean(clean, sizeof(clean), rows[i].in, strlen(rows[i].in));
		assert_string_equal(clean, rows[i].clean);
		assert_int_equal(str_quote(&quoted, rows[i].in), 0);
		assert_string_equal(strbuf_str(&quoted), rows[i].quoted);
	}
	/* fd_say() writes one line of text; processes that have no log report errors with it. */
	char said[64] = "";
	int ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	fd_say(ends[1], "the file server", "open a\n\x1b[2J: no");
	close(ends[1]);
	assert_int_equal(read(ends[0], said, sizeof(said) - 1), 33);
	assert_string_equal(said, "the file server: open a|?[2J: no\n");
	close(ends[0]);
	/*
	 * str_clean() and str_quote_end() shorten a text that does not fit in the buffer. They must
	 * not cut a character in two.
	 */
	char few[6];
	str_clean(few, sizeof(few), "abcd\xc3\xbc", 6);
	assert_string_equal(few, "abcd");
	str_quote_end(few, sizeof(few),
		"\xe2\x82\xac"
		"bcde\r\n",
		9);
	assert_string_equal(few, "bcde");
}

/*
 * Checks that the JSON parser leaves out values that are nested too deeply, together with
 * everything inside them.
 */
static void test_json_depth(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	char text[4096] = "";
	struct json *n;

	strcat(text, "{\"deep\":");
	for (int i = 0; i < 80; i++)
		strcat(text, "[{\"k\":");
	strcat(text, "null");
	for (int i = 0; i < 80; i++)
		strcat(text, ",\"l\":true},1]");
	strcat(text, ",\"last\":[1,{\"x\":2}]}");
	assert_true(strlen(text) < sizeof(text) - 1);
	assert_int_equal(parse(text, &a, &n), 0);
	assert_int_equal(n->count, 2);
	assert_int_equal(json_get(n, "last")->count, 2);
	assert_null(json_get(n, "last")->first->key);
	assert_int_equal(parse("{\"deep\":[[[", &a, &n), -EINVAL);
}

static void test_users(void **state)
{
	static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
				     "# a comment\n\nbroken\nbad::\nlate:x:12a:1\n"
				     "first:x:12:1:::\nsecond:x:12:1:::\nlast:x:4294967295:1";
	char name[USER_NAME_MAX];
	_cleanup_user_names_ struct user_names names = {0};

	assert_true(user_find(passwd, 12, name));
	assert_string_equal(name, "first");
	assert_true(user_find(passwd, 0, name));
	assert_string_equal(name, "root");
	assert_true(user_find(passwd, UINT32_MAX, name));
	assert_string_equal(name, "last");
	assert_false(user_find(passwd, 1, name));
	assert_false(user_find("", 0, name));
	/*
	 * user_find() must not take the uid 4294967308 for uid 12, although both are equal in their
	 * low 32 bits.
	 */
	assert_false(user_find("a:x:4294967308:", 12, name));
	assert_string_equal(user_name(&names, 0), "root");
	assert_null(user_name(&names, 3999999999U));
	assert_string_equal(user_name_or_number(&names, 3999999999U), "3999999999");
	assert_null(user_name(&names, 3999999999U));
}

static void test_json_out(void **state)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;

	assert_int_equal(json_out_init(&o, false), 0);
	json_out_object(&o, NULL);
	json_out_str(&o, "s", "a\"\xff\xc0\x80z");
	json_out_u64(&o, "u", UINT64_MAX);
	json_out_end_object(&o);
	assert_int_equal(json_out_text(&o, &text, &len), 0);
	assert_string_equal(text, "{\"s\":\"a\\\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbdz\",\"u\":"
				  "18446744073709551615}");
}

static void test_paths(void **state)
{
	char dir[] = "/tmp/caisson-path-XXXXXX";
	const char *name;
	struct stat st;

	assert_non_null(mkdtemp(dir));
	_cleanup_fd_ int root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(symlinkat("/../../etc", root, "out"), 0);
	assert_int_equal(symlinkat("/proc/self/fd", root, "magic"), 0);
	_cleanup_fd_ int made = path_mkdirs(root, "/out/x/../y/z");
	/*
	 * The symbolic link names "/../../etc", but must be resolved inside the tree: path_mkdirs()
	 * must make the directories in the tree's "etc" and none in /etc.
	 */
	assert_true(made >= 0);
	assert_int_equal(fstatat(root, "etc/y/z", &st, 0), 0);
	assert_int_equal(access("/etc/y", F_OK), -1);
	_cleanup_fd_ int inside = path_mkdirs(root, "out/y/z");
	assert_true(inside >= 0);
	assert_int_equal(fstatat(root, "etc/y/z", &st, 0), 0);
	_cleanup_fd_ int file = path_mkfile(root, "/out/a/b");
	assert_true(file >= 0);
	assert_int_equal(fstatat(root, "etc/a/b", &st, 0), 0);
	assert_int_equal(path_parent(root, "/a/..", &name), -EINVAL);
	_cleanup_fd_ int proc = path_open_proc();
	assert_true(proc >= 0);
	assert_true(path_open_in_proc(proc, "self/exe", O_RDONLY) < 0);
	_cleanup_fd_ int status = path_open_in_proc(proc, "self/status", O_RDONLY);
	/*
	 * path_open_in_proc() adds O_NOCTTY to the flags of most calls, but must not do so with
	 * O_PATH, because openat2(2) refuses the two flags together.
	 */
	_cleanup_fd_ int as_path = path_open_in_proc(proc, "self/ns", O_PATH);
	_cleanup_fd_ int as_dir = path_open_in_proc(proc, "self/ns", O_PATH | O_DIRECTORY);
	assert_true(as_path >= 0 && as_dir >= 0);
	assert_true(status >= 0);
	assert_true(path_open_in_proc(proc, "../etc/passwd", O_RDONLY) < 0);
	char cmd[128];
	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	assert_int_equal(system(cmd), 0);
}

/*
 * Checks that a second descriptor in a message is closed and does not leak. The sender sends two
 * descriptors, and the receiver expects one, but the padding of the kernel's control message has
 * room for two.
 */
static void test_descriptors_by_socket(void **state)
{
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(2 * sizeof(int))];
	} control = {.head = {CMSG_LEN(2 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec iov = {"x", 1};
	const struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	int s[2], fd = -EBADF, p[2];
	char byte;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, s), 0);
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
	memcpy(CMSG_DATA(&control.head), (int[]){p[1], p[1]}, 2 * sizeof(int));
	assert_int_equal(sendmsg(s[0], &m, 0), 1);
	assert_int_equal(fd_recv(s[1], &byte, 1, &fd), 1);
	assert_true(fd >= 0);
	fd_close(&fd);
	fd_close(&p[1]);
	/*
	 * read() returns 0 only if every copy of the pipe's write end is closed. So this shows that
	 * the second descriptor, which was such a copy, was closed.
	 */
	assert_int_equal(read(p[0], &byte, 1), 0);
	fd_close(&p[0]);
	fd_close(&s[0]);
	fd_close(&s[1]);
}

/*
 * Checks that fd_close_all_but() closes all descriptors that are not in its list, whether they are
 * before, between or after those in the list, and that it skips negative numbers in the list.
 */
static void close_all_but(void)
{
	int fds[6];

	for (int i = 0; i < 6; i++)
		CHECK((fds[i] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0);
	const int keep[] = {fds[4], -EBADF, fds[1]};
	CHECK(fd_close_all_but(keep, ARRAY_SIZE(keep)) >= 0);
	for (int i = 0; i < 6; i++)
		CHECK((fcntl(fds[i], F_GETFD) >= 0) == (i == 1 || i == 4));
	CHECK(fcntl(STDERR_FILENO, F_GETFD) >= 0);
	CHECK(fd_close_all_but(NULL, 0) >= 0);
	CHECK(fcntl(fds[1], F_GETFD) < 0 && fcntl(fds[4], F_GETFD) < 0);
}

static void test_close_all_but(void **state)
{
	assert_int_equal(child_status(close_all_but), 0);
}

static void test_null_descriptors(void **state)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC),
	    zero = open("/dev/zero", O_RDWR | O_CLOEXEC);

	assert_true(null >= 0 && zero >= 0);
	assert_true(fd_is_null(null));
	assert_false(fd_is_null(zero));
	close(null);
	assert_true(fd_is_null(null));
	fd_close(&zero);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_replace_file),
		cmocka_unit_test(test_json_booleans),
		cmocka_unit_test(test_crc32c),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_signals),
		cmocka_unit_test(test_bitlist),
		cmocka_unit_test(test_quote_end),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_json_depth),
		cmocka_unit_test(test_foreign_text),
		cmocka_unit_test(test_json_out),
		cmocka_unit_test(test_users),
		cmocka_unit_test(test_paths),
		cmocka_unit_test(test_descriptors_by_socket),
		cmocka_unit_test(test_close_all_but),
		cmocka_unit_test(test_null_descriptors),
	};
	return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
