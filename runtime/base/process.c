/* SPDX-License-Identifier: Apache-2.0 */
#include "base/process.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>

#include "base/fd.h"

#define KILL_AGAIN_MS 5

int process_wait(pid_t pid, const char *what, int *ret_status)
{
	while (waitpid(pid, ret_status, 0) < 0)
		if (errno != EINTR)
			return err_sys("wait for %s", what);
	return 0;
}

int process_kill(pid_t pid)
{
	int status = 0;

	for (;;) {
		(void)kill(pid, SIGKILL);
		pid_t r = waitpid(pid, &status, WNOHANG);
		if (r == pid || (r < 0 && errno != EINTR))
			return status;
		(void)poll(NULL, 0, KILL_AGAIN_MS);
	}
}

/* Reads the start time and the parent of a process from /proc/PID/stat. */
static int read_stat(pid_t pid, uint64_t *ret_start, pid_t *ret_parent)
{
	char path[64], buf[1024];

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : err_sys("open %s", path);
	ssize_t n = read(fd, buf, sizeof(buf) - 1);
	if (n <= 0)
		return n < 0 && errno != ESRCH ? err_sys("read %s", path) : -ESRCH;
	buf[n] = '\0';
	/*
	 * The process's name in /proc/PID/stat may contain any character, even ")", so the fields
	 * are counted from the last ")".
	 */
	char *p = strrchr(buf, ')');
	char state;
	if (!p || sscanf(p + 1,
			  " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d "
			  "%*d %" SCNu64,
			  &state, ret_parent, ret_start) != 3)
		return err_set(EINVAL, "%s has an unknown format", path);
	return state == 'Z' || state == 'X' ? -ESRCH : 0;
}

int process_start_time(pid_t pid, uint64_t *ret)
{
	pid_t parent;

	return read_stat(pid, ret, &parent);
}

int process_parent(pid_t pid, pid_t *ret)
{
	uint64_t start;

	return read_stat(pid, &start, ret);
}
