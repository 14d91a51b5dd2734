/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The systemd cgroup manager, on caisson's side: each function sends a request to the helper
 * program caisson-systemd (protocol.h), which talks to systemd (systemd.h).
 */
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/libexec.h"
#include "base/log.h"
#include "cgroups/cg_internal.h"
#include "cgroups/systemd/protocol.h"

/* the helper's directory in a build tree, relative to the directory of caisson */
#define BUILT "../cgroups"
#define LOG_KEPT 65536 /* how many bytes of the helper's log output caisson reads at most */

/* The helper's standard streams: the request, the reply and its log. Each is a memfd. */
struct streams {
	int fd[3];
};

static void streams_close(struct streams *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(s->fd); i++)
		fd_close(&s->fd[i]);
}

static int find_helper(struct arena *a, const char **ret)
{
	const char *dir;
	int r = libexec_find(a, SYSTEMD_HELPER, BUILT, &dir);

	if (r < 0)
		return r;
	*ret = arena_printf(a, "%s/" SYSTEMD_HELPER, dir);
	if (!*ret)
		return -ENOMEM;
	if (access(*ret, X_OK) < 0)
		return err_sys("the systemd cgroup manager needs the program %s (install it, "
			       "set " LIBEXEC_VARIABLE " to the directory it is in, or use "
			       "--cgroup-manager cgroupfs)",
			*ret);
	return 0;
}

static int make_streams(struct streams *ret, const struct systemd_request *q)
{
	_cleanup_strbuf_ struct strbuf bytes = {0};
	int r = pack_write(&systemd_request_type, q, &bytes);

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(ret->fd); i++) {
		ret->fd[i] = memfd_create(SYSTEMD_HELPER, MFD_CLOEXEC);
		if (ret->fd[i] < 0)
			r = err_sys("make a memfd");
	}
	if (r < 0)
		return r;
	r = fd_write_all(ret->fd[0], bytes.s, bytes.len);
	if (r < 0 || lseek(ret->fd[0], 0, SEEK_SET) < 0)
		return err_set(r < 0 ? -r : errno, "write a memfd");
	return 0;
}

/*
 * Replaces the child process by the helper; never returns. The kernel kills the helper if caisson
 * ends, because no caisson would be left to undo a unit that the helper made.
 */
static _Noreturn void become_helper(const char *path, const struct streams *s, pid_t parent)
{
	char *const argv[] = {(char *)SYSTEMD_HELPER, NULL};
	sigset_t none;

	sigemptyset(&none);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent &&
		dup2(s->fd[0], 0) == 0 && dup2(s->fd[1], 1) == 1 && dup2(s->fd[2], 2) == 2 &&
		close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0 &&
		sigprocmask(SIG_SETMASK, &none, NULL) == 0)
		execv(path, argv);
	dprintf(2, "execute it: %s\n", err_text(errno));
	_exit(127);
}

/* Logs the lines that the helper wrote to its standard error. Each line begins with its level. */
static void pass_log_on(char *text)
{
	static const char name[] = "caisson: ", warning[] = "warning: ";
	char *save = NULL;

	for (char *l = strtok_r(text, "\n", &save); l; l = strtok_r(NULL, "\n", &save)) {
		l += str_starts(l, name) ? sizeof(name) - 1 : 0;
		if (str_starts(l, warning))
			log_warn("%s", l + sizeof(warning) - 1);
		else
			log_debug("%s", l);
	}
}

static int read_stream(int fd, struct strbuf *ret, size_t max)
{
	if (lseek(fd, 0, SEEK_SET) < 0)
		return err_sys("read a memfd");
	return fd_read_all(fd, ret, max, SYSTEMD_HELPER "'s output");
}

static const char *last_line(char *text)
{
	size_t len = strlen(text);

	if (len && text[len - 1] == '\n')
		text[len - 1] = '\0';
	char *newline = strrchr(text, '\n');
	return newline ? newline + 1 : text;
}

static int take_reply(const struct streams *s, const char *path, int status)
{
	_cleanup_strbuf_ struct strbuf bytes = {0}, lines = {0};
	void *reply;
	int r = read_stream(s->fd[1], &bytes, SYSTEMD_MESSAGE_MAX);

	if (r >= 0)
		r = read_stream(s->fd[2], &lines, LOG_KEPT);
	if (r < 0)
		return r;
	if (WIFSIGNALED(status))
		return err_set(EIO, "%s was killed by signal %d", path, WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		return err_set(EIO, "%s ended with exit code %d: %s", path, WEXITSTATUS(status),
			last_line(lines.len ? lines.s : (char[]){""}));
	r = pack_read(&systemd_reply_type, bytes.s, bytes.len, &reply);
	if (r < 0)
		return err_set(EPROTO,
			"%s gave no reply that this build of caisson understands: install both of "
			"the same build",
			path);
	if (lines.len)
		pass_log_on(lines.s);
	const struct systemd_reply *p = reply;
	if (p->error < 0 || p->error > 4095)
		return err_set(EPROTO, "%s replied with the error number %d", path, p->error);
	return p->error ? err_set(p->error, "%s", p->message) : 0;
}

static int ask(struct systemd_request *q)
{
	__attribute__((cleanup(streams_close))) struct streams s = {{-EBADF, -EBADF, -EBADF}};
	_cleanup_arena_ struct arena a = {0};
	const char *path;
	int status;

	q->log_level = log_level();
	int r = find_helper(&a, &path);
	if (r >= 0)
		r = make_streams(&s, q);
	if (r < 0)
		return r;
	pid_t self = getpid(), pid = fork();
	if (pid < 0)
		return err_sys("fork");
	if (pid == 0)
		become_helper(path, &s, self);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_sys("wait for %s", path);
	return take_reply(&s, path, status);
}

/* Copies the limits that systemd has properties for. */
static void set_limits(struct systemd_request *q, const struct cg_resources *res)
{
	if (!res)
		return;
	q->has_limits = true;
	q->limits.memory.limit = res->memory.limit;
	q->limits.memory.reservation = res->memory.reservation;
	q->limits.memory.swap = res->memory.swap;
	q->limits.cpu.shares = res->cpu.shares;
	q->limits.cpu.period = res->cpu.period;
	q->limits.cpu.quota = res->cpu.quota;
	q->limits.cpu.idle = res->cpu.idle;
	q->limits.cpu.cpus = res->cpu.cpus;
	q->limits.cpu.mems = res->cpu.mems;
	q->limits.pids_limit = res->pids_limit;
}

/*
 * Finds the path of the scope's cgroup from /proc of the process in it, and checks that the path
 * ends in the scope's name, because someone may have moved the process elsewhere.
 */
static int find_path(struct arena *a, struct cgroup *cg, pid_t pid)
{
	const char *path;
	int r = cg_of_process(a, pid, &path);

	if (r < 0)
		return r;
	const char *at = strstr(path, cg->scope);
	if (!at || at == path || at[-1] != '/' || at[strlen(cg->scope)])
		return err_set(EIO,
			"systemd started %s, but process %d is in cgroup %s (does systemd use "
			"another cgroup hierarchy than the cgroup2 mount %s?)",
			cg->scope, pid, path, cg->mount);
	cg->path = path;
	return 0;
}

int cg_systemd_start(struct arena *a, struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid)
{
	struct systemd_request q = {.op = SYSTEMD_START, .cg = *cg, .opt = *opt, .pid = pid};

	set_limits(&q, res);
	int r = ask(&q);
	if (r == 0)
		r = find_path(a, cg, pid);
	if (r == 0)
		cg->unit_current = true;
	return r;
}

int cg_systemd_stop(const struct cgroup *cg)
{
	struct systemd_request q = {.op = SYSTEMD_STOP, .cg = *cg};

	return ask(&q);
}

int cg_systemd_update(const struct cgroup *cg)
{
	struct systemd_request q = {.op = SYSTEMD_UPDATE, .cg = *cg};

	return ask(&q);
}

int cg_systemd_attach(const struct cgroup *cg, pid_t pid)
{
	struct systemd_request q = {.op = SYSTEMD_ATTACH, .cg = *cg, .pid = pid};

	return ask(&q);
}
