/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/child.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "base/fd.h"

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

uint64_t status_number(pid_t pid, const char *name)
{
	_cleanup_strbuf_ struct strbuf b = {0};
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	CHECK(fd_read_file(AT_FDCWD, path, &b, 65536) == 0);
	const char *at = strstr(strbuf_str(&b), name);
	CHECK(at);
	return strtoull(at + strlen(name), NULL, 16);
}

void in_child(void (*f)(void))
{
	int status = child_status(f);

	if (WIFEXITED(status) && WEXITSTATUS(status) == CHILD_SKIPPED)
		skip();
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("the child ended with wait status 0x%x", status);
}
