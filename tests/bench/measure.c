/* SPDX-License-Identifier: Apache-2.0 */
/*
 * measure [-j N] CMD ARG... [';' CMD ARG...]...: runs the commands one after the other and prints
 *
 *	NANOSECONDS PEAK_KIB INSTRUCTIONS EXIT
 *
 * These are the wall time of all commands, the largest resident set of any of their processes, the
 * instructions that they and their children executed in user space and in the kernel (0 if the
 * machine cannot count them), and the last non-zero exit code. Python cannot measure the resident
 * set itself, because the kernel includes in ru_maxrss the memory that a process had before its
 * execve(2), which would be Python's.
 *
 * With -j N it runs N copies of the whole list at once. An argument that is just "%" is replaced by
 * the number of the copy, so that each copy can use a name of its own. The wall time is that of all
 * copies together.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct result {
	long peak; /* largest resident set of any process, in KiB */
	int rc;
};

static int null;

static int open_counter(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_INSTRUCTIONS,
		.inherit = 1,
		.disabled = 1,
	};

	return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static void run_one(char **cmd, struct result *r)
{
	struct rusage ru;
	int status;
	pid_t pid = vfork();

	if (pid == 0) {
		dup2(null, 0);
		dup2(null, 1);
		execv(cmd[0], cmd);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &ru) < 0) {
		perror("measure");
		exit(1);
	}
	if (ru.ru_maxrss > r->peak)
		r->peak = ru.ru_maxrss;
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		r->rc = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static struct result run_list(int argc, char **argv)
{
	struct result r = {0};

	for (int i = 0; i < argc;) {
		char **cmd = &argv[i];

		while (i < argc && argv[i] && strcmp(argv[i], ";"))
			i++;
		argv[i++] = NULL;
		run_one(cmd, &r);
	}
	return r;
}

/*
 * Runs N copies of the list of commands at once. Each copy is a child process that runs the list
 * and reports its result by its exit code.
 */
static struct result run_copies(int copies, int argc, char **argv)
{
	struct result r = {0};
	int status;

	for (int n = 0; n < copies; n++) {
		if (fork() != 0)
			continue;
		static char number[16];
		snprintf(number, sizeof(number), "%d", n);
		for (int i = 0; i < argc; i++)
			if (!strcmp(argv[i], "%"))
				argv[i] = number;
		_exit(run_list(argc, argv).rc);
	}
	while (wait(&status) > 0)
		if (status)
			r.rc = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
	return r;
}

int main(int argc, char **argv)
{
	struct timespec a, b;
	unsigned long long instructions = 0;
	int copies = 0, counter;
	struct result r;

	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (argc > 2 && !strcmp(argv[1], "-j")) {
		copies = atoi(argv[2]);
		argv += 2;
		argc -= 2;
	}
	counter = open_counter();
	if (counter >= 0)
		ioctl(counter, PERF_EVENT_IOC_ENABLE, 0);
	clock_gettime(CLOCK_MONOTONIC, &a);
	r = copies ? run_copies(copies, argc - 1, argv + 1) : run_list(argc - 1, argv + 1);
	clock_gettime(CLOCK_MONOTONIC, &b);
	if (counter < 0 || read(counter, &instructions, sizeof(instructions)) < 0)
		instructions = 0;
	printf("%lld %ld %llu %d\n", (b.tv_sec - a.tv_sec) * 1000000000LL + b.tv_nsec - a.tv_nsec,
		r.peak, instructions, r.rc);
	return 0;
}
