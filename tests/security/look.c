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
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_FDS 64
#define MAX_LINES 4096

/* The lines of `watch` are collected, because the same line comes thousands of times. */
struct report {
	FILE *out;
	bool collect;
	char *lines[MAX_LINES];
	size_t n;
};

struct target {
	int pid;
	char dir[32];
};

static void say(struct report *r, const char *what, int code, const char *found)
{
	char line[8192];

	snprintf(
		line, sizeof(line), "%s\t%s\t%s", what, code ? strerrorname_np(code) : "ok", found);
	if (!r->collect) {
		fprintf(r->out, "%s\n", line);
		return;
	}
	for (size_t i = 0; i < r->n; i++)
		if (strcmp(r->lines[i], line) == 0)
			return;
	if (r->n < MAX_LINES)
		r->lines[r->n++] = strdup(line);
}

/* Replaces zeros by blanks and unprintable characters by '?', so that the text is one line. */
static void printable(char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		s[i] = s[i] == '\0' || s[i] == '\n'   ? ' '
		       : isprint((unsigned char)s[i]) ? s[i]
						      : '?';
	while (len && s[len - 1] == ' ')
		len--;
	s[len] = '\0';
}

/* Reads the beginning of a file of /proc/PID. Returns 0 or an errno. */
static int read_file(const struct target *t, const char *name, char *ret, size_t size)
{
	char path[64];
	size_t len = 0;
	ssize_t n = 0;

	ret[0] = '\0';
	snprintf(path, sizeof(path), "%s/%s", t->dir, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	while (len < size - 1 && (n = read(fd, ret + len, size - 1 - len)) > 0)
		len += (size_t)n;
	int code = n < 0 && !len ? errno : 0;
	close(fd);
	printable(ret, len);
	return code;
}

static int open_name(const struct target *t, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", t->dir, name);
	return open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/*
 * Reads the command line with one call. Between two, the process could become another program, and
 * the result would be the beginning of one command line and the end of another.
 */
static void cmdline(const struct target *t, char *ret, size_t size)
{
	int fd = open_name(t, "cmdline", O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, ret, size - 1);

	if (fd >= 0)
		close(fd);
	printable(ret, n > 0 ? (size_t)n : 0);
}

static int link_of(const struct target *t, const char *name, char *ret, size_t size)
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "%s/%s", t->dir, name);
	ret[0] = '\0';
	n = readlink(path, ret, size - 1);
	if (n < 0)
		return errno;
	printable(ret, (size_t)n);
	return 0;
}

/* Describes the file by what cannot be forged: its type, device, inode and file system. */
static void describe(int fd, char *ret, size_t size)
{
	struct statfs fs = {0};
	struct stat st = {0};

	fstat(fd, &st);
	fstatfs(fd, &fs);
	char type = S_ISREG(st.st_mode)    ? 'f'
		    : S_ISDIR(st.st_mode)  ? 'd'
		    : S_ISCHR(st.st_mode)  ? 'c'
		    : S_ISBLK(st.st_mode)  ? 'b'
		    : S_ISFIFO(st.st_mode) ? 'p'
		    : S_ISSOCK(st.st_mode) ? 's'
					   : '?';
	snprintf(ret, size, "%c %llu:%llu fs=%lx", type, (unsigned long long)st.st_dev,
		(unsigned long long)st.st_ino, (unsigned long)fs.f_type);
}

static void look_open(
	struct report *r, const struct target *t, const char *name, int flags, const char *what)
{
	char found[128] = "";
	int fd = open_name(t, name, flags);
	int code = errno;

	if (fd >= 0) {
		describe(fd, found, sizeof(found));
		close(fd);
	}
	say(r, what, fd >= 0 ? 0 : code, found);
}

static void look_files(struct report *r, const struct target *t)
{
	static const char *const names[] = {
		"environ", "auxv", "maps", "smaps", "pagemap", "syscall", "personality", "io"};
	char text[4096];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		int code = read_file(t, names[i], text, sizeof(text));
		say(r, names[i], code, text);
	}
	look_open(r, t, "mem", O_RDWR, "mem");
}

static void look_links(struct report *r, const struct target *t)
{
	static const char *const names[] = {"exe", "cwd", "root", "ns/mnt"};
	char text[4096], what[32];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		int code = link_of(t, names[i], text, sizeof(text));
		say(r, names[i], code, text);
	}
	look_open(r, t, "exe", O_RDONLY, "exe-read");
	look_open(r, t, "exe", O_WRONLY, "exe-write");
	look_open(r, t, "exe", O_PATH, "exe-path");
	for (size_t i = 1; i < 3; i++) {
		snprintf(what, sizeof(what), "%s-path", names[i]);
		look_open(r, t, names[i], O_PATH | O_DIRECTORY, what);
	}
}

/* Calls the function for each entry of a directory of /proc/PID. */
static void each_entry(struct report *r, const struct target *t, const char *dir,
	void (*f)(struct report *, const struct target *, const char *))
{
	char path[320];
	struct dirent *e;

	snprintf(path, sizeof(path), "%s/%s", t->dir, dir);
	DIR *d = opendir(path);
	if (!d) {
		say(r, dir, errno, "");
		return;
	}
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.' || strlen(e->d_name) > 40)
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		f(r, t, path);
	}
	closedir(d);
}

static void look_fd(struct report *r, const struct target *t, const char *name)
{
	char text[4096], path[64];

	int code = link_of(t, name, text, sizeof(text));
	say(r, name, code, text);
	snprintf(path, sizeof(path), "%s-path", name);
	look_open(r, t, name, O_PATH, path);
	snprintf(path, sizeof(path), "%s-read", name);
	look_open(r, t, name, O_RDONLY, path);
	snprintf(path, sizeof(path), "%s-write", name);
	look_open(r, t, name, O_WRONLY, path);
}

static void look_fdinfo(struct report *r, const struct target *t, const char *name)
{
	char text[512];
	int code = read_file(t, name, text, sizeof(text));

	say(r, name, code, text);
}

static void look_map_file(struct report *r, const struct target *t, const char *name)
{
	char text[4096];
	int code = link_of(t, name, text, sizeof(text));

	say(r, "map_files", code, text);
}

static void look_getfd(struct report *r, const struct target *t)
{
	char what[32], found[128];
	int pidfd = (int)syscall(SYS_pidfd_open, t->pid, 0);

	for (int i = 0; pidfd >= 0 && i < MAX_FDS; i++) {
		int fd = (int)syscall(SYS_pidfd_getfd, pidfd, i, 0);
		int code = errno;
		if (fd < 0 && code == EBADF)
			continue;
		found[0] = '\0';
		if (fd >= 0) {
			describe(fd, found, sizeof(found));
			close(fd);
		}
		snprintf(what, sizeof(what), "getfd/%d", i);
		say(r, what, fd < 0 ? code : 0, found);
		if (fd < 0)
			break;
	}
	if (pidfd >= 0)
		close(pidfd);
}

static void look_ptrace(struct report *r, const struct target *t)
{
	char byte;
	struct iovec ours = {&byte, 1}, theirs = {(void *)0x400000, 1};
	int code = 0;

	if (process_vm_readv(t->pid, &ours, 1, &theirs, 1, 0) < 0)
		code = errno;
	/* EFAULT means that the kernel has allowed the access, and found nothing at the address. */
	say(r, "vm-readv", code == EFAULT ? 0 : code, "");
	code = syscall(SYS_kcmp, getpid(), t->pid, 0, 0, 0) < 0 ? errno : 0;
	if (code != ENOSYS)
		say(r, "kcmp", code == EBADF ? 0 : code, "");
	if (ptrace(PTRACE_SEIZE, t->pid, NULL, NULL) < 0) {
		say(r, "ptrace", errno, "");
		return;
	}
	say(r, "ptrace", 0, "");
	if (ptrace(PTRACE_INTERRUPT, t->pid, NULL, NULL) == 0)
		waitpid(t->pid, NULL, __WALL);
	ptrace(PTRACE_DETACH, t->pid, NULL, NULL);
}

static void look(struct report *r, const struct target *t)
{
	look_files(r, t);
	look_links(r, t);
	each_entry(r, t, "fd", look_fd);
	each_entry(r, t, "fdinfo", look_fdinfo);
	each_entry(r, t, "map_files", look_map_file);
	look_getfd(r, t);
	look_ptrace(r, t);
}

static struct target target_of(int pid)
{
	struct target t = {.pid = pid};

	snprintf(t.dir, sizeof(t.dir), "/proc/%d", pid);
	return t;
}

static void look_at(struct report *r, int pid)
{
	struct target t = target_of(pid);
	char text[8192];

	cmdline(&t, text, sizeof(text));
	say(r, "cmdline", 0, text);
	look(r, &t);
}

static bool is_program(const char *line, const char *program)
{
	size_t len = strlen(program);

	return strncmp(line, program, len) == 0 && (line[len] == ' ' || line[len] == '\0');
}

/*
 * Looks once, and keeps only what it has found while the process was still INIT. A process turns
 * from INIT into the program and never back, so one look at its command line afterwards is enough.
 * A process that is ending has an empty command line.
 */
static bool look_once(struct report *all, const struct target *t, const char *program)
{
	static struct report one;
	char line[8192];

	one.collect = true;
	for (size_t i = 0; i < one.n; i++)
		free(one.lines[i]);
	one.n = 0;
	static void (*const parts[])(struct report *, const struct target *) = {
		look_files, look_links, look_getfd, look_ptrace};
	for (size_t i = 0; i <= sizeof(parts) / sizeof(*parts); i++) {
		size_t before = one.n;
		if (i < sizeof(parts) / sizeof(*parts)) {
			parts[i](&one, t);
		} else {
			each_entry(&one, t, "fd", look_fd);
			each_entry(&one, t, "fdinfo", look_fdinfo);
			each_entry(&one, t, "map_files", look_map_file);
		}
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
 * Watches for new processes. The kernel assigns the pids of a pid namespace in order, so the next
 * ones are known beforehand.
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
	/* The descriptor stays open, because the lock ends with it. */
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
	/* The kernel drops its last reference to the running program a moment later. */
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
 * The first process ends, because the runtime waits for a hook. The one that keeps the copies does
 * not keep the standard streams, for which the runtime waits too.
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
