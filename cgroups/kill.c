/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processes of a cgroup: listing, signalling, and removing all.
 *
 * SIGKILL is cgroup.kill's: one write that no fork escapes. Other signals go to each process; the
 * cgroup is frozen meanwhile, so that the list is complete and no number is reused under our hands.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "cgroups/cg_internal.h"

#define EMPTY_TIMEOUT_MS 10000
#define FREEZE_TIMEOUT_MS 2000
#define RMDIR_TRIES 12
#define DEPTH_MAX 64

static bool is_gone(int r)
{
	return r == -ENOENT || r == -ENODEV;
}

typedef int visit_fn(int dir, void *arg);

/* Calls visit for dir and all beneath it, the deepest first. dir must be readable. */
static int walk(int dir, unsigned depth, visit_fn *visit, void *arg)
{
	if (depth > DEPTH_MAX)
		return err_set(ELOOP, "cgroups are nested deeper than %d levels", DEPTH_MAX);
	int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);
	int r = 0;

	if (!d) {
		int code = errno;
		fd_close(&again);
		return is_gone(-code) ? 0 : err_set(code, "list cgroups: %s", cg_strerror(code));
	}
	for (struct dirent *e; r >= 0 && (e = readdir(d));) {
		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		_cleanup_fd_ int sub =
			openat(dir, e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
		if (sub < 0 && errno == ENOENT)
			continue;
		r = sub < 0 ? err_sys("open cgroup %s", e->d_name)
			    : walk(sub, depth + 1, visit, arg);
	}
	closedir(d);
	return r < 0 ? r : visit(dir, arg);
}

struct pid_list {
	struct strbuf text; /* pid_t after pid_t */
};

static int collect(int dir, void *arg)
{
	struct pid_list *list = arg;
	_cleanup_strbuf_ struct strbuf text = {0};
	const char *file = "cgroup.procs";
	int r = fd_read_file(dir, file, &text, 64 << 20);

	if (r == -EOPNOTSUPP) { /* a threaded cgroup lists its threads only */
		strbuf_reset(&text);
		file = "cgroup.threads";
		r = fd_read_file(dir, file, &text, 64 << 20);
	}
	if (r < 0)
		return is_gone(r) ? 0 : r;
	for (const char *p = strbuf_str(&text); *p; p += strcspn(p, "\n"), p += *p == '\n') {
		pid_t pid = (pid_t)strtol(p, NULL, 10);
		/* 0 is a process of a pid namespace that the reader can't see into. */
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
	int r = walk(dir, 0, collect, &list);
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
	int r = walk(dir, 0, collect, &list);

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
	if (is_gone(dir)) {
		err_clear();
		return 0;
	}
	if (dir < 0)
		return dir;
	if (sig == SIGKILL) {
		int r = cg_write(dir, "cgroup.kill", "1");
		if (r == -EOPNOTSUPP) /* a threaded cgroup has none that works */
			return signal_each(dir, sig);
		return r < 0 && !is_gone(r) ? cg_err_file(r, NULL, "cgroup.kill", "1", cg->path)
					    : 0;
	}
	char was[16] = "";
	bool frozen = cg_read(dir, "cgroup.freeze", was, sizeof(was)) == 0 && streq(was, "0") &&
		      cg_write(dir, "cgroup.freeze", "1") == 0;
	/*
	 * A process in the middle of a system call that can't be interrupted freezes late: go on
	 * without it.
	 */
	if (frozen && cg_wait_event(dir, "frozen", 1, FREEZE_TIMEOUT_MS) == -ETIMEDOUT)
		log_debug("cgroup %s did not freeze before signal %d", cg->path, sig);
	int r = signal_each(dir, sig);
	if (frozen) {
		int thaw = cg_write(dir, "cgroup.freeze", "0");
		if (thaw < 0 && !is_gone(thaw) && r == 0)
			r = cg_err_file(thaw, NULL, "cgroup.freeze", "0", cg->path);
	}
	return r;
}

/*
 * EBUSY lasts a moment longer than the last process: its exit drops the cgroup's references late.
 */
static int rmdir_patiently(int parent, const char *name, const char *shown)
{
	long delay_us = 100;

	for (int i = 0;; i++) {
		if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		if (errno != EBUSY || i == RMDIR_TRIES)
			return err_set(errno, "remove cgroup %s: %s", shown,
				errno == EBUSY ? "processes in it don't end" : cg_strerror(errno));
		nanosleep(&(struct timespec){.tv_nsec = delay_us * 1000}, NULL);
		delay_us *= 2;
	}
}

static int remove_beneath(int dir, void *arg)
{
	int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = again < 0 ? NULL : fdopendir(again);
	int r = 0;

	if (!d) {
		fd_close(&again);
		return 0;
	}
	for (struct dirent *e; r >= 0 && (e = readdir(d));)
		if (e->d_type == DT_DIR && e->d_name[0] != '.')
			r = rmdir_patiently(dir, e->d_name, e->d_name);
	closedir(d);
	return r;
}

int cg_remove_tree(const struct cgroup *cg)
{
	if (streq(cg->path, "/"))
		return err_set(EINVAL, "the root cgroup can't be removed");
	_cleanup_fd_ int mount = cg_open_mount(cg);
	if (mount < 0)
		return mount;
	if (unlinkat(mount, cg->path + 1, AT_REMOVEDIR) == 0 || errno == ENOENT)
		return 0;
	if (errno != EBUSY && errno != ENOTEMPTY)
		return err_set(errno, "remove cgroup %s: %s", cg->path, cg_strerror(errno));
	_cleanup_fd_ int dir = cg_open_dir(mount, cg->path, O_RDONLY);
	if (is_gone(dir)) {
		err_clear();
		return 0;
	}
	if (dir < 0)
		return dir;
	int r = cg_kill(cg, SIGKILL);
	if (r < 0)
		return r;
	r = cg_wait_event(dir, "populated", 0, EMPTY_TIMEOUT_MS);
	if (r == -ETIMEDOUT)
		return err_set(EBUSY, "remove cgroup %s: processes in it do not die within %d s",
			cg->path, EMPTY_TIMEOUT_MS / 1000);
	if (r < 0 && !is_gone(r))
		return r;
	r = walk(dir, 0, remove_beneath, NULL);
	return r < 0 ? r : rmdir_patiently(mount, cg->path + 1, cg->path);
}

/* Those that were made for it. Another container's beneath one of them keeps it. */
static void remove_parents(const struct cgroup *cg)
{
	char parent[PATH_MAX];
	size_t len = (size_t)(strrchr(cg->path, '/') - cg->path);

	if (cg->scope || len <= cg->kept)
		return;
	_cleanup_fd_ int mount = cg_open_mount(cg);
	if (mount < 0)
		return;
	snprintf(parent, sizeof(parent), "%.*s", (int)len, cg->path);
	cg_remove_made(mount, parent, cg->kept);
}

int cg_destroy(const struct cgroup *cg)
{
	int stopped = cg->scope ? cg_systemd_stop(cg) : 0;

	/* Whatever systemd did, what is known by path must go. */
	if (cg->path) {
		if (stopped < 0)
			log_debug("systemd scope %s: %s", cg->scope, err_msg());
		int r = cg_remove_tree(cg);
		if (r >= 0)
			remove_parents(cg);
		if (r < 0 || stopped == 0)
			return r;
	}
	return stopped;
}
