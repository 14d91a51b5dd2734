/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/child.h"

#include <stdlib.h>
#include <sys/wait.h>

int child_status(void (*f)(void))
{
	int status;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		alarm(60);
		f();
		_exit(0);
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

void in_child(void (*f)(void))
{
	int status = child_status(f);

	if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SKIPPED)
		skip();
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("the child ended with wait status 0x%x", status);
}
