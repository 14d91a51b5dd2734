/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at another process in every way that the kernel offers, for test_init_in_sight.py. It is a
 * static program, so that it runs in any root file system.
 *
 *	look [-o FILE] at PID
 *		tries everything once
 *	look [-o FILE] watch SECONDS PROGRAM
 *		tries everything on each new process, again and again, until that process has
 *		become PROGRAM or has ended; makes /tmp/caught once it has seen one, and ends when
 *		there is a /tmp/stop
 *	look [-o FILE] vandal PID
 *		writes to and locks every regular file that PID has open, and keeps the locks until
 *		it is killed
 *	look [-o FILE] keep-exe PID
 *		keeps PID's program open, and tries to write to it after PID has become another one
 *	look hold PID
 *		copies every descriptor of PID, and keeps the copies in a process of its own until
 *		that is killed
 *	look send
 *		calls sendmsg(2), and prints the errno
 *	look wait
 *		does nothing until it is killed
 *	look nothing
 *		ends at once
 *
 * It writes a line for each thing that it has tried: the name of the thing, "ok" or the errno's
 * name, and what it found, with tabs between them. The file of -o gets its name when it is
 * complete.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "look.h"

static void look_at(struct report *r, int pid)
{
	struct target t = target_of(pid);
	char text[8192];

	cmdline(&t, text, sizeof(text));
	say(r, "cmdline", 0, text);
	for (size_t i = 0; i < LOOK_PARTS; i++)
		look_parts[i](r, &t);
}

static bool is_program(const char *line, const char *program)
{
	size_t len = strlen(program);

	return strncmp(line, program, len) == 0 && (line[len] == ' ' || line[len] == '\0');
}

/*
 * Looks once, and keeps only what it has found while the process was still the container's first
 * process (INIT). A process turns from INIT into the program and never back, so one look at its
 * command line afterwards is enough. A process that is ending has an empty command line.
 */
static bool look_once(struct report *all, const struct target *t, const char *program)
{
	static struct report one;
	char line[8192];

	one.collect = true;
	for (size_t i = 0; i < one.n; i++)
		free(one.lines[i]);
	one.n = 0;
	for (size_t i = 0; i < LOOK_PARTS; i++) {
		size_t before = one.n;
		look_parts[i](&one, t);
		cmdline(t, line, sizeof(line));
		if (!line[0] || is_program(line, program)) {
			one.n = before;
			break;
		}
		say(all, "cmdline", 0, line);
		for (; before < one.n; before++) {
			char *what = one.lines[before];
			char *code = strchr(what, '\t') + 1;
			if (strncmp(code, "ok\t", 3) == 0) {
				code[-1] = '\0';
				say(all, what, 0, code + 3);
				code[-1] = '\t';
			}
		}
	}
	return line[0] && !is_program(line, program);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int newest_pid(void)
{
	char text[128] = "";
	int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC), pid = 0;

	if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0)
		sscanf(strrchr(text, ' '), "%d", &pid);
	if (fd >= 0)
		close(fd);
	return pid;
}

/*
 * Looks at each new process of this pid namespace. The kernel assigns pids in order, so the numbers
 * of the next processes are known before they start.
 */
static void watch(struct report *r, double seconds, const char *program)
{
	double end = now() + seconds;
	int last = newest_pid(), caught = 0;
	char line[8192];

	r->collect = true;
	while (now() < end && access("/tmp/stop", F_OK) < 0)
		for (int pid = last + 1; pid < last + 4; pid++) {
			struct target t = target_of(pid);
			cmdline(&t, line, sizeof(line));
			if (!line[0] && access(t.dir, F_OK) < 0)
				continue;
			last = pid;
			bool init = line[0] && !is_program(line, program);
			if (init && !caught++)
				close(open("/tmp/caught", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
			if (init)
				say(r, "cmdline", 0, line);
			while (init)
				init = look_once(r, &t, program);
			break;
		}
	for (size_t i = 0; i < r->n; i++)
		fprintf(r->out, "%s\n", r->lines[i]);
	fprintf(r->out, "caught\tok\t%d\n", caught);
}

static void vandalise(struct report *r, const struct target *t, const char *name)
{
	static const char junk[64] = "written by a process of the container";
	struct stat st;
	char what[64];

	int fd = open_name(t, name, O_RDWR);
	if (fd < 0)
		fd = open_name(t, name, O_WRONLY);
	snprintf(what, sizeof(what), "%s-vandal", name);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		say(r, what, pwrite(fd, junk, sizeof(junk), 0) < 0 ? errno : 0, "");
	else
		say(r, what, fd < 0 ? errno : EINVAL, "");
	if (fd < 0)
		fd = open_name(t, name, O_RDONLY);
	snprintf(what, sizeof(what), "%s-lock", name);
	/*
	 * The program keeps the descriptor open, because closing it would release the lock on the
	 * file.
	 */
	say(r, what, fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0 ? errno : 0, "");
}

static void keep_exe(struct report *r, int pid)
{
	struct target t = target_of(pid);
	char path[64], first[64] = "", text[64];

	int fd = open_name(&t, "exe", O_PATH);
	if (fd < 0) {
		say(r, "exe-path", errno, "");
		return;
	}
	describe(fd, first, sizeof(first));
	say(r, "exe-path", 0, first);
	fprintf(stdout, "kept\n");
	fflush(stdout);
	for (double end = now() + 20; now() < end; usleep(10000)) {
		int other = open_name(&t, "exe", O_PATH);
		text[0] = '\0';
		if (other >= 0)
			describe(other, text, sizeof(text));
		close(other);
		if (strcmp(text, first) != 0)
			break;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/*
	 * Waits 0.1 s before it opens the program's file for writing, because the kernel keeps a
	 * reference to the file for a moment after the program has ended.
	 */
	usleep(100000);
	int write_fd = open(path, O_RDWR | O_CLOEXEC);
	say(r, "reopen", write_fd < 0 ? errno : 0, "");
	if (write_fd < 0)
		return;
	int seals = fcntl(write_fd, F_GET_SEALS);
	snprintf(text, sizeof(text), "0x%x", seals);
	say(r, "seals", seals < 0 ? errno : 0, text);
	say(r, "overwrite", pwrite(write_fd, "junk", 4, 0) < 0 ? errno : 0, "");
	say(r, "truncate", ftruncate(write_fd, 0) < 0 ? errno : 0, "");
}

/*
 * Copies all descriptors of the process. A child process keeps the copies. The test runs this mode
 * as a hook, and the runtime waits for the end of a hook and of its standard streams: so this
 * process ends, and the child closes its standard streams.
 */
static void hold(struct report *r, int pid)
{
	char what[32];
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	for (int i = 0; pidfd >= 0 && i < MAX_FDS; i++) {
		int fd = (int)syscall(SYS_pidfd_getfd, pidfd, i, 0);
		if (fd < 0 && errno == EBADF)
			continue;
		snprintf(what, sizeof(what), "hold/%d", i);
		say(r, what, fd < 0 ? errno : 0, "");
	}
	fflush(r->out);
	if (fork() > 0)
		return;
	for (int i = 0; i < 3; i++)
		close(i);
	setsid();
	for (;;)
		pause();
}

static int send_nothing(void)
{
	struct msghdr m = {0};

	if (syscall(SYS_sendmsg, -1, &m, 0) < 0)
		puts(strerrorname_np(errno));
	return 0;
}

int main(int argc, char **argv)
{
	static struct report r;
	const char *file = NULL;
	char part[PATH_MAX];

	if (argc > 2 && strcmp(argv[1], "-o") == 0) {
		file = argv[2];
		argv += 2;
		argc -= 2;
	}
	const char *how = argc > 1 ? argv[1] : "";
	if (strcmp(how, "send") == 0)
		return send_nothing();
	while (strcmp(how, "wait") == 0)
		pause();
	if (strcmp(how, "nothing") == 0)
		return 0;
	r.out = stdout;
	if (file) {
		snprintf(part, sizeof(part), "%s.part", file);
		r.out = fopen(part, "we");
		if (!r.out)
			return 3;
	}
	if (argc == 3 && strcmp(how, "at") == 0) {
		look_at(&r, atoi(argv[2]));
	} else if (argc == 4 && strcmp(how, "watch") == 0) {
		printf("watching\n");
		fflush(stdout);
		watch(&r, atof(argv[2]), argv[3]);
	} else if (argc == 3 && strcmp(how, "vandal") == 0) {
		struct target t = target_of(atoi(argv[2]));
		each_entry(&r, &t, "fd", vandalise);
	} else if (argc == 3 && strcmp(how, "hold") == 0) {
		hold(&r, atoi(argv[2]));
	} else if (argc == 3 && strcmp(how, "keep-exe") == 0) {
		keep_exe(&r, atoi(argv[2]));
	} else {
		return 2;
	}
	fprintf(r.out, "end\tok\t\n");
	fflush(r.out);
	if (file && rename(part, file) < 0)
		return 4;
	while (strcmp(how, "vandal") == 0)
		pause();
	return 0;
}
