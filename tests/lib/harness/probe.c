/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints what a process in a container can see of itself, for the tests. It is a static program, so
 * that it runs in any root file system.
 *
 *	probe info              /proc/self/status, then other facts in the same form
 *	probe fds               number and target of every open descriptor
 *	probe syscall NR [ARG]  makes the system call; prints "ok N", or the errno's number and text
 *	probe open PATH FLAGS   opens PATH (r, w or x for O_PATH); prints as syscall does
 *	probe notify TEXT       sends TEXT to $NOTIFY_SOCKET
 *	probe winsize           prints "ROWS COLS" now and at each SIGWINCH
 *	probe signal NUMBER     kills itself with the signal
 *	probe pause             waits for ever; all signals keep their default effect
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <unistd.h>

static void copy_file(const char *path)
{
	char buf[8192];
	size_t n;
	FILE *f = fopen(path, "re");

	if (!f)
		return;
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		fwrite(buf, 1, n, stdout);
	fclose(f);
}

static void value_file(const char *key, const char *path)
{
	char buf[512] = "";
	FILE *f = fopen(path, "re");

	if (f) {
		if (!fgets(buf, sizeof(buf), f))
			buf[0] = 0;
		buf[strcspn(buf, "\n")] = 0;
		fclose(f);
	}
	printf("%s:\t%s\n", key, buf);
}

static void rlimits(void)
{
	static const char *const names[] = {"CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC",
		"NOFILE", "MEMLOCK", "AS", "LOCKS", "SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO",
		"RTTIME"};

	for (int i = 0; i < 16; i++) {
		struct rlimit l;

		getrlimit(i, &l);
		printf("RLIMIT_%s:\t%llu %llu\n", names[i], (unsigned long long)l.rlim_cur,
			(unsigned long long)l.rlim_max);
	}
}

struct attr {
	unsigned size, policy;
	unsigned long long flags;
	int nice;
	unsigned priority;
	unsigned long long runtime, deadline, period;
	unsigned util_min, util_max;
};

static int info(void)
{
	struct utsname u;
	struct attr a = {0};
	char cwd[4096] = "";
	sigset_t blocked;

	copy_file("/proc/self/status");
	value_file("OomScoreAdj", "/proc/self/oom_score_adj");
	value_file("AppArmor", "/proc/self/attr/current");
	rlimits();
	uname(&u);
	printf("Hostname:\t%s\nDomainname:\t%s\nMachine:\t%s\n", u.nodename, u.domainname,
		u.machine);
	printf("Cwd:\t%s\n", getcwd(cwd, sizeof(cwd)) ? cwd : strerror(errno));
	printf("Personality:\t%x\n", personality(0xffffffff));
	printf("IoPrio:\t%ld\n", syscall(SYS_ioprio_get, 1, 0));
	syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0);
	printf("Sched:\t%u %llu %d %u %llu %llu %llu\n", a.policy, a.flags, a.nice, a.priority,
		a.runtime, a.deadline, a.period);
	printf("Session:\t%d\nPgrp:\t%d\nPid2:\t%d\n", getsid(0), getpgrp(), getpid());
	printf("Dumpable:\t%d\nKeepcaps:\t%d\nSecurebits:\t%d\n", prctl(PR_GET_DUMPABLE),
		prctl(PR_GET_KEEPCAPS), prctl(PR_GET_SECUREBITS));
	printf("Pdeathsig:\t%d\n", ({
		int s = 0;
		prctl(PR_GET_PDEATHSIG, &s);
		s;
	}));
	sigprocmask(SIG_BLOCK, NULL, &blocked);
	printf("Stdin tty:\t%d\n", isatty(0));
	for (char **e = environ; *e; e++)
		printf("env %.*s:\t%s\n", (int)strcspn(*e, "="), *e,
			strchr(*e, '=') ? strchr(*e, '=') + 1 : "");
	return 0;
}

static int fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	struct dirent *e;
	char path[64], target[4096];

	if (!d)
		return 1;
	while ((e = readdir(d))) {
		ssize_t n;
		if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(d))
			continue;
		snprintf(path, sizeof(path), "/proc/self/fd/%.20s", e->d_name);
		n = readlink(path, target, sizeof(target) - 1);
		printf("%s %.*s\n", e->d_name, (int)(n < 0 ? 0 : n), target);
	}
	return 0;
}

static int answer(long r)
{
	if (r < 0)
		printf("%d %s\n", errno, strerror(errno));
	else
		printf("ok %ld\n", r);
	return 0;
}

static int notify(const char *text)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	int s = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (!path)
		return 2;
	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (a.sun_path[0] == '@')
		a.sun_path[0] = 0;
	if (sendto(s, text, strlen(text), 0, (void *)&a,
		    offsetof(struct sockaddr_un, sun_path) + strlen(path)) < 0) {
		perror(path);
		return 1;
	}
	printf("sent to %s\n", path);
	return 0;
}

static void winsize_once(int sig)
{
	struct winsize w = {0};
	char buf[64];

	(void)sig;
	ioctl(0, TIOCGWINSZ, &w);
	if (write(1, buf, (size_t)snprintf(buf, sizeof(buf), "size %d %d\n", w.ws_row, w.ws_col)) <
		0)
		_exit(1);
}

int main(int argc, char **argv)
{
	const char *cmd = argc > 1 ? argv[1] : "";
	const char *arg = argc > 2 ? argv[2] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!strcmp(cmd, "info"))
		return info();
	if (!strcmp(cmd, "fds"))
		return fds();
	if (!strcmp(cmd, "syscall"))
		return answer(
			syscall(atol(arg), argc > 3 ? strtol(argv[3], NULL, 0) : 0, 0, 0, 0, 0, 0));
	if (!strcmp(cmd, "open")) {
		char how = argc > 3 ? argv[3][0] : 'r';
		return answer(open(arg, how == 'w' ? O_WRONLY : how == 'x' ? O_PATH : O_RDONLY));
	}
	if (!strcmp(cmd, "notify"))
		return notify(arg);
	if (!strcmp(cmd, "winsize")) {
		signal(SIGWINCH, winsize_once);
		winsize_once(0);
		for (;;)
			pause();
	}
	if (!strcmp(cmd, "signal")) {
		signal(atoi(arg), SIG_DFL);
		kill(getpid(), atoi(arg));
		pause();
	}
	if (!strcmp(cmd, "pause"))
		for (;;)
			pause();
	fprintf(stderr, "probe: info, fds, syscall, open, notify, winsize, signal or pause\n");
	return 2;
}
