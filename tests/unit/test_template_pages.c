/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the files that say which pages of a template are touched first: such a file appears
 * complete or not at all, and one that is damaged or of another template is not used.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "monitor/template_pages.h"

#define MEMORY (UINT64_C(64) << 20)
#define OK(call) \
	do { \
		if ((call) < 0) \
			fail_msg("%s: %s", #call, err_msg()); \
	} while (0)

static char dir[] = "/tmp/pages-XXXXXX";
static int cache;
static const struct template_found template = {.name = "template-00000001-00000002-00000003-04",
	.fd = -EBADF,
	.owner = {.made = 1234, .agent_port = 77}};
#define NAME "pages-00000001-00000002-00000003-04"
static const struct vm_page_run some[] = {{5, 2, true}, {7, 9, false}, {100, 1, true}};

static int end_of_keeper(const struct template_new *t)
{
	int status;

	assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
	return status;
}

static void make(const struct vm_page_run *runs, size_t n)
{
	struct template_new t;

	OK(template_pages_make(cache, &template, &t));
	OK(template_pages_write(&t, &template.owner, runs, n));
	assert_int_equal(end_of_keeper(&t), 0);
	template_abandon(&t);
}

static void open_fails(const struct template_found *t, uint64_t memory, const char *text)
{
	struct template_pages p;

	err_clear();
	assert_true(template_pages_open(cache, t, memory, &p) < 0);
	assert_null(p.runs);
	if (!strstr(err_msg(), text))
		fail_msg("got \"%s\", expected \"%s\"", err_msg(), text);
}

static void change(off_t at, uint8_t by)
{
	_cleanup_fd_ int fd = openat(cache, NAME, O_RDWR | O_CLOEXEC);
	uint8_t byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= by;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

static int set_up(void **state)
{
	snprintf(dir + strlen(dir) - 6, 7, "XXXXXX");
	assert_non_null(mkdtemp(dir));
	cache = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return cache < 0 ? -1 : 0;
}

static int tear_down(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	assert_int_equal(system(command), 0);
	fd_close(&cache);
	return 0;
}

static void the_pages_are_found_again(void **state)
{
	struct template_pages p;

	assert_int_equal(template_pages_open(cache, &template, MEMORY, &p), -ENOENT);
	make(some, ARRAY_SIZE(some));
	OK(template_pages_open(cache, &template, MEMORY, &p));
	assert_int_equal(p.n, ARRAY_SIZE(some));
	for (size_t i = 0; i < p.n; i++)
		assert_true(p.runs[i].first == some[i].first && p.runs[i].count == some[i].count &&
			    p.runs[i].written == some[i].written);
	template_pages_release(&p);
}

static void a_damaged_file_is_not_used(void **state)
{
	make(some, ARRAY_SIZE(some));
	change(40, 1); /* a run */
	open_fails(&template, MEMORY, NAME ": it has a wrong checksum");
	make(some, ARRAY_SIZE(some));
	change(0, 1);
	open_fails(&template, MEMORY, "no record of pages");
	make(some, ARRAY_SIZE(some));
	change(23, 0x40); /* the number of runs */
	open_fails(&template, MEMORY, "no record of pages");
	_cleanup_fd_ int fd = openat(cache, NAME, O_RDWR | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, 8), 0);
	open_fails(&template, MEMORY, "truncated");
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	open_fails(&template, MEMORY, "larger than");
}

static void a_file_of_another_template_is_not_used(void **state)
{
	struct template_found other = template;

	make(some, ARRAY_SIZE(some));
	other.owner.made++;
	open_fails(&other, MEMORY, "of another template");
	other = template;
	other.owner.agent_port++;
	open_fails(&other, MEMORY, "of another template");
}

static void runs_beyond_their_limits_are_refused(void **state)
{
	static const struct vm_page_run bad[][2] = {
		{{5, 2, true}, {6, 1, true}},                     /* they overlap */
		{{5, 2, true}, {1, 1, true}},                     /* not in order */
		{{5, 2, true}, {7, 0, false}},                    /* empty */
		{{5, 2, true}, {MEMORY / VM_PAGE - 1, 2, false}}, /* beyond the memory */
		{{5, 2, true}, {UINT32_MAX, INT32_MAX, false}}, /* the same, and it wraps around */
		{{5, 2, true}, {10, VM_WRITTEN_MAX - 1, true}}, /* too many written pages */
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		make(bad[i], 2);
		open_fails(&template, MEMORY, "run 1 is beyond its limits");
	}
}

static void an_unfinished_file_is_removed(void **state)
{
	struct template_new t, second;

	OK(template_pages_make(cache, &template, &t));
	err_clear();
	assert_int_equal(template_pages_make(cache, &template, &second), -ETIMEDOUT);
	assert_int_equal(faccessat(cache, NAME CACHE_TMP, F_OK, 0), 0);
	template_abandon(&t); /* the monitor ends */
	assert_true(WEXITSTATUS(end_of_keeper(&t)) == 1);
	assert_int_equal(faccessat(cache, NAME CACHE_TMP, F_OK, 0), -1);

	OK(template_pages_make(cache, &template, &t));
	assert_int_equal(kill(t.pid, SIGKILL), 0);
	assert_int_equal(end_of_keeper(&t), SIGKILL);
	template_abandon(&t);
	open_fails(&template, MEMORY, "");
	make(some, ARRAY_SIZE(some));
	assert_int_equal(faccessat(cache, NAME CACHE_TMP, F_OK, 0), -1);
}

/* A template that is made later removes what was recorded before the host booted. */
static void an_old_file_is_removed(void **state)
{
	struct template_key key = {.boot = 1, .files = 2, .build = 3};
	struct template_new t;

	OK(strbuf_addf(&key.text, "a machine\n"));
	make(some, ARRAY_SIZE(some));
	OK(template_make(cache, &key, MEMORY, 1, &t));
	template_abandon(&t);
	(void)end_of_keeper(&t);
	assert_int_equal(faccessat(cache, NAME, F_OK, 0), 0);
	key.boot = 9;
	OK(template_make(cache, &key, MEMORY, 1, &t));
	template_abandon(&t);
	(void)end_of_keeper(&t);
	assert_int_equal(faccessat(cache, NAME, F_OK, 0), -1);
	strbuf_release(&key.text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(the_pages_are_found_again),
		TEST(a_damaged_file_is_not_used),
		TEST(a_file_of_another_template_is_not_used),
		TEST(runs_beyond_their_limits_are_refused),
		TEST(an_unfinished_file_is_removed),
		TEST(an_old_file_is_removed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
