/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists and signals the processes of a cgroup.
 *
 * caisson sends SIGKILL by one write to cgroup.kill, which no fork can escape. It sends any other
 * signal to each process, while the cgroup is frozen, so that the list of processes is complete and
 * no process id is reused meanwhile.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "cgroups/cg_internal.h"

#define FREEZE_TIMEOUT_MS 2000

struct pid_list {
	struct strbuf text; /* array of pid_t, stored as bytes */
};

static int collect_pids(int dir, void *arg)
{
	struct pid_list *list = arg;
	_cleanup_strbuf_ struct strbuf text = {0};
	const char *file = "cgroup.procs";
	int r = fd_read_file(dir, file, &text, 64 << 20);

	/*
	 * Reads cgroup.threads instead of cgroup.procs in a threaded cgroup, for which the kernel
	 * answers EOPNOTSUPP.
	 */
	if (r == -EOPNOTSUPP) {
		strbuf_reset(&text);
		file = "cgroup.threads";
		r = fd_read_file(dir, file, &text, 64 << 20);
	}
	if (r < 0)
		return cg_is_gone(r) ? 0 : r;
	for (const char *p = strbuf_str(&text); *p; p += strcspn(p, "\n"), p += *p == '\n') {
		pid_t pid = (pid_t)strtol(p, NULL, 10);
		/*
		 * The kernel lists a process as 0 if the process is in a pid namespace that the
		 * reader cannot see.
		 */
		if (pid > 0 && (r = strbuf_add(&list->text, &pid, sizeof(pid))) < 0)
			return r;
	}
	return 0;
}

int cg_pids(struct arena *a, const struct cgroup *cg, pid_t **ret, size_t *ret_n)
{
	struct pid_list list = {0};

	*ret = NULL;
	*ret_n = 0;
	if (!cg->path)
		return 0;
	_cleanup_fd_ int dir = cg_open(cg);
	if (dir < 0)
		return dir;
	int r = cg_walk(dir, collect_pids, &list);
	if (r == 0 && list.text.len) {
		*ret = arena_alloc(a, list.text.len);
		if (*ret) {
			memcpy(*ret, list.text.s, list.text.len);
			*ret_n = list.text.len / sizeof(pid_t);
		} else {
			r = -ENOMEM;
		}
	}
	strbuf_release(&list.text);
	return r;
}

static int signal_each(int dir, int sig)
{
	struct pid_list list = {0};
	int r = cg_walk(dir, collect_pids, &list);

	for (size_t i = 0; r == 0 && i + sizeof(pid_t) <= list.text.len; i += sizeof(pid_t)) {
		pid_t pid;
		memcpy(&pid, list.text.s + i, sizeof(pid));
		if (kill(pid, sig) < 0 && errno != ESRCH)
			r = err_sys("send signal %d to process %d", sig, pid);
	}
	strbuf_release(&list.text);
	return r;
}

int cg_kill(const struct cgroup *cg, int sig)
{
	if (!cg->path)
		return 0;
	_cleanup_fd_ int dir = cg_open(cg);
	if (cg_is_gone(dir)) {
		err_clear();
		return 0;
	}
	if (dir < 0)
		return dir;
	if (sig == SIGKILL) {
		int r = cg_write(dir, "cgroup.kill", "1");
		if (r == -EOPNOTSUPP) /* the kernel refuses cgroup.kill in a threaded cgroup */
			return signal_each(dir, sig);
		return r < 0 && !cg_is_gone(r) ? cg_err_file(r, NULL, "cgroup.kill", "1", cg->path)
					       : 0;
	}
	char was[16] = "";
	bool frozen = cg_read(dir, "cgroup.freeze", was, sizeof(was)) == 0 && streq(was, "0") &&
		      cg_write(dir, "cgroup.freeze", "1") == 0;
	/*
	 * caisson goes on without the freeze if it takes too long, because a process in a system
	 * call that cannot be interrupted freezes late.
	 */
	if (frozen && cg_wait_event(dir, "frozen", 1, FREEZE_TIMEOUT_MS) == -ETIMEDOUT)
		log_debug("cgroup %s did not freeze before signal %d", cg->path, sig);
	int r = signal_each(dir, sig);
	if (frozen) {
		int thaw = cg_write(dir, "cgroup.freeze", "0");
		if (thaw < 0 && !cg_is_gone(thaw) && r == 0)
			r = cg_err_file(thaw, NULL, "cgroup.freeze", "0", cg->path);
	}
	return r;
}
