/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at one process in every way that the kernel offers, and adds what it found to the report.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "look.h"

void say(struct report *r, const char *what, int code, const char *found)
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

/*
 * Replaces the zeros in a text by blanks, and unprintable characters by '?', so that the text is
 * one line of the report.
 */
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

/* Reads the beginning of a file in the target's directory /proc/PID. Returns 0 or an errno. */
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

int open_name(const struct target *t, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", t->dir, name);
	return open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
}

/*
 * Reads the target's command line with only one read(2), because between two reads the process
 * could execute another program, and the text would begin with one command line and end with
 * another.
 */
void cmdline(const struct target *t, char *ret, size_t size)
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

/*
 * Describes the file by properties that nobody can forge: its type, device, inode and file system.
 */
void describe(int fd, char *ret, size_t size)
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

/* Calls one() for each entry of a directory of the target's /proc/PID. */
void each_entry(struct report *r, const struct target *t, const char *dir,
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
	/*
	 * EFAULT means that the kernel has allowed process_vm_readv(2), and has found no memory at
	 * the address.
	 */
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

static void look_entries(struct report *r, const struct target *t)
{
	each_entry(r, t, "fd", look_fd);
	each_entry(r, t, "fdinfo", look_fdinfo);
	each_entry(r, t, "map_files", look_map_file);
}

const look_fn look_parts[LOOK_PARTS] = {
	look_files, look_links, look_getfd, look_ptrace, look_entries};

struct target target_of(int pid)
{
	struct target t = {.pid = pid};

	snprintf(t.dir, sizeof(t.dir), "/proc/%d", pid);
	return t;
}
