/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The systemd cgroup manager, on caisson's side: each function sends a request to the helper
 * program caisson-systemd (protocol.h), which talks to systemd (systemd.h).
 */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/helper.h"
#include "base/libexec.h"
#include "base/log.h"
#include "cgroups/cg_internal.h"
#include "cgroups/systemd/protocol.h"

/* the helper's directory in a build tree, relative to the directory of caisson */
#define BUILT "../cgroups"
#define LOG_KEPT 65536 /* how many bytes of the helper's log output caisson reads */

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

static int take_reply(const struct helper_streams *s, const char *path, int status)
{
	_cleanup_strbuf_ struct strbuf bytes = {0}, lines = {0};
	void *reply;
	int r = helper_read(s, 1, &bytes, SYSTEMD_MESSAGE_MAX);

	if (r >= 0)
		r = helper_read(s, 2, &lines, LOG_KEPT);
	if (r < 0)
		return r;
	if (WIFSIGNALED(status))
		return err_set(EIO, "%s was killed by signal %d", path, WTERMSIG(status));
	if (WEXITSTATUS(status) != 0)
		return err_set(EIO, "%s ended with exit code %d: %s", path, WEXITSTATUS(status),
			helper_last_line(&lines));
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
	_cleanup_helper_streams_ struct helper_streams s = HELPER_STREAMS_INIT;
	const char *const argv[] = {SYSTEMD_HELPER, NULL};
	_cleanup_strbuf_ struct strbuf bytes = {0};
	_cleanup_arena_ struct arena a = {0};
	const char *path;
	int status;

	q->log_level = log_level();
	int r = find_helper(&a, &path);
	if (r >= 0)
		r = pack_write(&systemd_request_type, q, &bytes);
	if (r >= 0)
		r = helper_streams_open(&s, bytes.s, bytes.len);
	if (r >= 0)
		r = helper_run(&s, path, argv, &status);
	return r < 0 ? r : take_reply(&s, path, status);
}

/* Copies into the request those limits for which systemd has properties. */
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
 * Finds the path of the scope's cgroup in /proc/PID/cgroup of the process in the scope, and checks
 * that the path ends in the scope's name, because someone may have moved the process elsewhere.
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
