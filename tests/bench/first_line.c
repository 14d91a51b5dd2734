/* SPDX-License-Identifier: Apache-2.0 */
/*
 * first_line COMMAND [ARG...]: measures how long COMMAND takes until it prints a line that begins
 * with "first" to its standard output. It prints the nanoseconds from just before the fork to that
 * line (0 if there was no such line), the nanoseconds to the end of COMMAND, COMMAND's exit code
 * (128 + signal), and the rest of the line. After that it copies all output of COMMAND to standard
 * error.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char text[1 << 16];

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/*
 * Searches the output that COMMAND has written so far for a complete line that begins with "first".
 * Returns the text after this word, or NULL.
 */
static const char *find(void)
{
	const char *at = strncmp(text, "first", 5) == 0 ? text : strstr(text, "\nfirst");

	if (!at || !strchr(at + 1, '\n'))
		return NULL;
	return strstr(at, "first") + 5;
}

int main(int argc, char **argv)
{
	long long first = 0;
	size_t len = 0;
	int ends[2], status;
	ssize_t n;

	if (argc < 2 || pipe2(ends, O_CLOEXEC) < 0)
		return 1;
	long long from = now_ns();
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(ends[1], 1);
		execv(argv[1], argv + 1);
		perror(argv[1]);
		_exit(127);
	}
	close(ends[1]);
	while ((n = read(ends[0], text + len, sizeof(text) - 1 - len)) > 0) {
		len += (size_t)n;
		text[len] = '\0';
		if (!first && find())
			first = now_ns() - from;
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 1;
	const char *rest = first ? find() : "";
	printf("%lld %lld %d%.*s\n", first, now_ns() - from,
		WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
		(int)strcspn(rest, "\r\n"), rest);
	fputs(text, stderr);
	return 0;
}
