/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests in which state ns_spawn(), which starts the container's first process, leaves its caller.
 */
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "ns/spawn.h"

static const struct step plain = {.kind = STEP_CLONE};
static const struct step impossible = {
	.kind = STEP_CLONE, .clone.flags = CLONE_THREAD | CLONE_NEWPID};

static struct ns_spawn_args args_of(const struct step *clone, int cgroup)
{
	return (struct ns_spawn_args){
		.clone = clone, .cgroup = cgroup, .image = -1, .orders = -1, .channel = -1};
}

/*
 * Lowers the limit of open descriptors of this process so far that it can open no more. Returns the
 * old limit.
 */
static struct rlimit forbid_descriptors(void)
{
	struct rlimit before, none;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	none = before;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	return before;
}

static void assert_fails(const struct ns_spawn_args *a, bool descriptors, const char *message)
{
	struct ns_child child = {.pid = -1};
	struct rlimit before = {0};

	assert_int_equal(prctl(PR_SET_DUMPABLE, 1), 0);
	if (!descriptors)
		before = forbid_descriptors();
	int r = ns_spawn(a, &child);
	if (!descriptors)
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_true(r < 0);
	assert_non_null(strstr(err_msg(), message));
	assert_int_equal(child.pid, -1);
	/*
	 * The caller of ns_spawn() must be dumpable again, because a process of an ordinary user
	 * that is not dumpable cannot write to its own files in /proc.
	 */
	assert_int_equal(prctl(PR_GET_DUMPABLE), 1);
}

static void test_caller_stays_dumpable(void **state)
{
	const struct ns_spawn_args pipe = args_of(&plain, -EBADF),
				   clone = args_of(&impossible, -EBADF);

	assert_fails(&pipe, false, "make a pipe");
	assert_fails(&clone, true, "clone");
}

/*
 * Checks that ns_spawn() uses no pipe to start a process that is born in a cgroup, because this
 * process shares no memory with the caller.
 */
static void test_no_pipe_without_shared_memory(void **state)
{
	const struct ns_spawn_args a = args_of(&plain, STDIN_FILENO);

	assert_fails(&a, false, "clone");
}

static void count(void *data)
{
	++*(int *)data;
}

/*
 * Checks that ns_spawn() calls the caller's function `meanwhile` exactly once if it has started a
 * process, and not at all if it has failed.
 */
static void test_meanwhile(void **state)
{
	struct ns_child child = {.pid = -1};
	int calls = 0, status, fds[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct ns_spawn_args a = args_of(&impossible, -EBADF);

	assert_int_equal(channel_pair(fds), 0);
	a.image = open("/bin/true", O_PATH | O_CLOEXEC);
	a.orders = null;
	a.stdout_fd = a.stderr_fd = -EBADF;
	a.channel = fds[0];
	a.pass = &fds[1];
	a.npass = 1;
	a.meanwhile = count;
	a.data = &calls;
	assert_fails(&a, true, "clone");
	assert_int_equal(calls, 0);
	a.clone = &plain;
	assert_int_equal(ns_spawn(&a, &child), 0);
	assert_int_equal(calls, 1);
	assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
	assert_int_equal(status, 0);
	close(child.pidfd);
	close(a.image);
	close(null);
	close(fds[0]);
	close(fds[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_caller_stays_dumpable),
		cmocka_unit_test(test_no_pipe_without_shared_memory),
		cmocka_unit_test(test_meanwhile),
	};

	return cmocka_run_group_tests_name("ns_spawn", tests, NULL, NULL);
}
