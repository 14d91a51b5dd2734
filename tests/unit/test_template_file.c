/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the files of templates in the cache, with snapshots of no machine: a template appears
 * complete or not at all, and one that was changed or that others may write to is not used.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "jail/jail.h"
#include "monitor/template_file.h"
#include "unit/rig/child.h"

#define MEMORY (2U << 20)
#define PORT 7777
#define OK(call) \
	do { \
		if ((call) < 0) \
			fail_msg("%s: %s", #call, err_msg()); \
	} while (0)

static char dir[] = "/tmp/template-XXXXXX";
static int cache;
static struct template_key key;

/* Counts the files of the cache whose names begin with `prefix` and end with `suffix`. */
static unsigned count(const char *prefix, const char *suffix)
{
	DIR *d = opendir(dir);
	unsigned n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		size_t len = strlen(e->d_name), end = strlen(suffix);

		n += str_starts(e->d_name, prefix) && len >= end &&
		     streq(e->d_name + len - end, suffix) && !streq(e->d_name, "template.lock");
	}
	closedir(d);
	return n;
}

static void write_template(struct template_new *t)
{
	uint8_t memory[4096];
	struct snapshot_writer w;

	memset(memory, 7, sizeof(memory));
	assert_int_equal(pwrite(t->fd, memory, sizeof(memory), 0), sizeof(memory));
	OK(snapshot_begin(&w));
	OK(snapshot_section(&w, SNAPSHOT_OWNER, 0));
	OK(snapshot_put(&w, t->owner.s, t->owner.len));
	OK(snapshot_finish(&w));
	OK(fd_write_all(t->fd, w.bytes.s, w.bytes.len));
	snapshot_release(&w);
}

/* Waits for the keeper's end. Returns its status. */
static int wait_for_keeper(const struct template_new *t)
{
	int status;

	assert_int_equal(waitpid(t->pid, &status, 0), t->pid);
	return status;
}

static void make(const struct template_key *k)
{
	struct template_new t;

	OK(template_make(cache, k, MEMORY, PORT, &t));
	write_template(&t);
	assert_int_equal(send(t.keeper, "", 1, 0), 1);
	assert_int_equal(wait_for_keeper(&t), 0);
	template_abandon(&t);
}

static void opens(void)
{
	struct template_found f;

	OK(template_open(cache, &key, MEMORY, &f));
	assert_int_equal(f.owner.agent_port, PORT);
	template_release(&f);
}

static void open_fails(int error, const char *text)
{
	struct template_found f;

	err_clear();
	assert_int_equal(template_open(cache, &key, MEMORY, &f), -error);
	if (!strstr(err_msg(), text))
		fail_msg("got \"%s\", expected \"%s\"", err_msg(), text);
}

/* Returns the path of the only template of the cache. */
static const char *path_of(void)
{
	static char path[512];
	DIR *d = opendir(dir);

	path[0] = '\0';
	for (struct dirent *e; (e = readdir(d));)
		if (str_starts(e->d_name, "template-"))
			snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
	closedir(d);
	assert_true(path[0]);
	return path;
}

static void change_byte(off_t at)
{
	_cleanup_fd_ int fd = open(path_of(), O_RDWR | O_CLOEXEC);
	char byte;

	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

static int set_up(void **state)
{
	snprintf(dir + strlen(dir) - 6, 7, "XXXXXX");
	assert_non_null(mkdtemp(dir));
	cache = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	key.boot = 1;
	key.files = 2;
	key.build = 3;
	return strbuf_addf(&key.text, "a machine\n");
}

static int tear_down(void **state)
{
	char command[64];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	assert_int_equal(system(command), 0);
	fd_close(&cache);
	strbuf_release(&key.text);
	return 0;
}

static void a_template_is_found_again(void **state)
{
	struct template_key other = {.boot = 1, .files = 2, .build = 3};
	struct template_found f;
	struct stat st;

	open_fails(ENOENT, "");
	make(&key);
	opens();
	assert_int_equal(stat(path_of(), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(count("template-", ".tmp"), 0);
	OK(strbuf_addf(&other.text, "another machine\n"));
	assert_int_equal(template_open(cache, &other, MEMORY, &f), -ENOENT);
	strbuf_release(&other.text);
}

static void a_template_is_replaced(void **state)
{
	struct stat before, after;

	make(&key);
	assert_int_equal(stat(path_of(), &before), 0);
	_cleanup_fd_ int old = open(path_of(), O_RDONLY | O_CLOEXEC);
	make(&key);
	assert_int_equal(stat(path_of(), &after), 0);
	assert_int_not_equal(before.st_ino, after.st_ino);
	/* A machine that maps the old file keeps it. */
	assert_int_equal(lseek(old, 0, SEEK_END), before.st_size);
	opens();
}

static void a_changed_template_is_not_used(void **state)
{
	make(&key);
	change_byte(100); /* guest memory */
	open_fails(EBADMSG, "was changed after it was made");
	make(&key);
	opens();
	change_byte(MEMORY + 40); /* the snapshot */
	open_fails(EBADMSG, "wrong checksum");
	make(&key);
	opens();
	assert_int_equal(truncate(path_of(), MEMORY + 8), 0);
	open_fails(EBADMSG, "truncated");
	assert_int_equal(truncate(path_of(), 4096), 0);
	open_fails(EBADMSG, "truncated");
}

static void a_template_of_another_key_is_not_used(void **state)
{
	struct template_key other = {.boot = 1, .files = 2, .build = 3};
	char path[512], theirs[512];

	make(&key);
	snprintf(path, sizeof(path), "%s", path_of());
	assert_int_equal(unlink(path), 0);
	OK(strbuf_addf(&other.text, "another machine\n"));
	make(&other);
	snprintf(theirs, sizeof(theirs), "%s", path_of());
	assert_int_equal(rename(theirs, path), 0);
	open_fails(EBADMSG, "of another machine");
	strbuf_release(&other.text);
}

static void what_others_may_write_is_not_used(void **state)
{
	char path[512], aside[sizeof(path) + 8];

	make(&key);
	snprintf(path, sizeof(path), "%s", path_of());
	assert_int_equal(chmod(path, 0622), 0);
	open_fails(EPERM, "template-");
	assert_int_equal(chmod(path, 0600), 0);
	opens();
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 4711, 4711), 0);
		open_fails(EPERM, "template-");
		assert_int_equal(chown(path, 0, 0), 0);
	}
	snprintf(aside, sizeof(aside), "%s.aside", path);
	assert_int_equal(rename(path, aside), 0);
	assert_int_equal(symlink(aside, path), 0);
	open_fails(ELOOP, "template-");
}

static void an_unfinished_template_is_removed(void **state)
{
	struct template_new t;

	OK(template_make(cache, &key, MEMORY, PORT, &t));
	write_template(&t);
	assert_int_equal(count("template-", ".tmp"), 1);
	template_abandon(&t); /* the monitor ends */
	assert_true(WEXITSTATUS(wait_for_keeper(&t)) == 1);
	assert_int_equal(count("template-", ""), 0);
	open_fails(ENOENT, "");
}

static bool is_confined(pid_t pid)
{
	return status_number(pid, "CapEff:") == 0 && status_number(pid, "CapPrm:") == 0 &&
	       status_number(pid, "NoNewPrivs:") == 1 &&
	       status_number(pid, "\nSeccomp:") == (JAIL_HAS_FILTERS ? 2 : 0);
}

/* The keeper holds the cache while the guest runs, so it has no other rights. */
static void the_keeper_is_confined(void **state)
{
	struct template_new t;

	OK(template_make(cache, &key, MEMORY, PORT, &t));
	for (unsigned ms = 0; ms < 10000 && !is_confined(t.pid); ms++)
		usleep(1000);
	assert_true(is_confined(t.pid));
	template_abandon(&t);
	wait_for_keeper(&t);
}

static void a_killed_keeper_leaves_nothing_that_is_used(void **state)
{
	struct template_new t;

	OK(template_make(cache, &key, MEMORY, PORT, &t));
	write_template(&t);
	assert_int_equal(kill(t.pid, SIGKILL), 0);
	assert_int_equal(wait_for_keeper(&t), SIGKILL);
	template_abandon(&t);
	assert_int_equal(count("template-", ".tmp"), 1);
	open_fails(ENOENT, "");
	make(&key);
	assert_int_equal(count("template-", ".tmp"), 0);
	opens();
}

/* After the next boot of the host each machine has another key. */
static void a_file_that_was_left_for_another_key_is_removed(void **state)
{
	struct template_key other = {.boot = 1, .files = 2, .build = 3};
	struct template_new t;

	OK(strbuf_addf(&other.text, "another machine\n"));
	OK(template_make(cache, &other, MEMORY, PORT, &t));
	write_template(&t);
	assert_int_equal(kill(t.pid, SIGKILL), 0);
	assert_int_equal(wait_for_keeper(&t), SIGKILL);
	template_abandon(&t);
	make(&key);
	assert_int_equal(count("template-", ".tmp"), 0);
	assert_int_equal(count("template-", ""), 1);
	opens();
	strbuf_release(&other.text);
}

static void only_one_process_makes_a_template(void **state)
{
	struct template_new t, second;

	OK(template_make(cache, &key, MEMORY, PORT, &t));
	err_clear();
	assert_int_equal(template_make(cache, &key, MEMORY, PORT, &second), -ETIMEDOUT);
	assert_non_null(strstr(err_msg(), "lock"));
	write_template(&t);
	assert_int_equal(send(t.keeper, "", 1, 0), 1);
	assert_int_equal(wait_for_keeper(&t), 0);
	template_abandon(&t);
	opens();
	make(&key);
}

static void the_oldest_templates_are_removed(void **state)
{
	for (unsigned i = 0; i < 12; i++) {
		struct template_key k = {.boot = 1, .files = 2, .build = 3};

		OK(strbuf_addf(&k.text, "machine %u\n", i));
		make(&k);
		strbuf_release(&k.text);
	}
	make(&key);
	assert_int_equal(count("template-", ""), 8);
	opens();
}

/* Makes a template with these hashes and returns whether it is still there after another one. */
static bool stays(uint32_t boot, uint32_t files, uint32_t build)
{
	struct template_key other = {.boot = boot, .files = files, .build = build};
	struct template_found f;

	OK(strbuf_addf(&other.text, "another machine\n"));
	make(&other);
	make(&key);
	opens();
	int r = template_open(cache, &other, MEMORY, &f);
	if (r >= 0)
		template_release(&f);
	strbuf_release(&other.text);
	assert_true(r == 0 || r == -ENOENT);
	return r == 0;
}

static void templates_that_no_machine_can_use_are_removed(void **state)
{
	char old[64];

	assert_true(stays(1, 2, 3));
	assert_true(stays(1, 9, 9));  /* another caisson or kernel, which is still there */
	assert_false(stays(1, 2, 9)); /* the same paths, and another build */
	assert_false(stays(9, 2, 3)); /* before the host booted */
	assert_false(stays(9, 9, 9));
	/* the name of a template of an earlier version of caisson */
	snprintf(old, sizeof(old), "template-%032d", 0);
	_cleanup_fd_ int fd = openat(cache, old, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	make(&key);
	assert_int_equal(faccessat(cache, old, F_OK, 0), -1);
	opens();
}

static void a_cache_that_cannot_be_written(void **state)
{
	struct template_new t;
	_cleanup_fd_ int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	err_clear();
	assert_true(template_make(proc, &key, MEMORY, PORT, &t) < 0);
	assert_true(err_msg()[0]);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_template_is_found_again),
		TEST(a_template_is_replaced),
		TEST(a_changed_template_is_not_used),
		TEST(a_template_of_another_key_is_not_used),
		TEST(what_others_may_write_is_not_used),
		TEST(an_unfinished_template_is_removed),
		TEST(the_keeper_is_confined),
		TEST(a_killed_keeper_leaves_nothing_that_is_used),
		TEST(a_file_that_was_left_for_another_key_is_removed),
		TEST(only_one_process_makes_a_template),
		TEST(the_oldest_templates_are_removed),
		TEST(templates_that_no_machine_can_use_are_removed),
		TEST(a_cache_that_cannot_be_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
