/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure CMD ARG... [';' CMD ARG...]...: runs the commands one after the other and prints
 *
 *	NANOSECONDS PEAK_KIB EXIT
 *
 * which are the wall time of all commands, the largest resident set of any of their processes, and
 * the last non-zero exit code. Python cannot measure this itself, because the kernel counts into
 * ru_maxrss what a process had before its execve(2), which would be Python's size.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct timespec a, b;
	long peak = 0;
	int rc = 0, null = open("/dev/null", O_RDWR | O_CLOEXEC);

	clock_gettime(CLOCK_MONOTONIC, &a);
	for (int i = 1; i < argc;) {
		char **cmd = &argv[i];
		struct rusage ru;
		int status;
		pid_t pid;

		while (i < argc && strcmp(argv[i], ";"))
			i++;
		argv[i++] = NULL;
		pid = vfork();
		if (pid == 0) {
			dup2(null, 0);
			dup2(null, 1);
			execv(cmd[0], cmd);
			_exit(127);
		}
		if (pid < 0 || wait4(pid, &status, 0, &ru) < 0) {
			perror("measure");
			return 1;
		}
		if (ru.ru_maxrss > peak)
			peak = ru.ru_maxrss;
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			rc = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	}
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%lld %ld %d\n", (b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec, peak,
		rc);
	return 0;
}
