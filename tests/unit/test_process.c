/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>

#include "base/process.h"
#include "rig/child.h"

#define USER 12345
#define LATE_US 200000
#define HANG_S 20

/*
 * Is a child that takes the user of its parent only after the parent has tried to kill it for the
 * first time.
 */
_Noreturn static void change_user_late(void)
{
	alarm(HANG_S);
	usleep(LATE_US);
	(void)!setresuid(USER, USER, USER);
	for (;;)
		pause();
}

static void run_kill_before_the_change_of_user(void)
{
	alarm(HANG_S);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		change_user_late();
	CHECK(setresuid(USER, USER, USER) == 0);
	CHECK(kill(pid, SIGKILL) == -1);
	int status = process_kill(pid);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == -1);
}

ROOT_CHILD_TEST(kill_before_the_change_of_user)

static void run_kill_after_the_end(void)
{
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		_exit(3);
	siginfo_t info;
	CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
	int status = process_kill(pid);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
	CHECK(process_kill(pid) == 0);
}

CHILD_TEST(kill_after_the_end)

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_kill_before_the_change_of_user),
		cmocka_unit_test(test_kill_after_the_end)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
