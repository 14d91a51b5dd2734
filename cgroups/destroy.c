/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Removes a container's cgroup: kills the processes that are left, and removes the cgroups beneath
 * it, the cgroup itself, and the parents that caisson made for it.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "cgroups/cg_internal.h"

#define EMPTY_TIMEOUT_MS 10000
#define RMDIR_TRIES 12

/*
 * Removes a cgroup. Retries for some time, because the kernel drops the references that the last
 * process holds only a little after that process has ended.
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

static int remove_tree(const struct cgroup *cg)
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
	if (cg_is_gone(dir)) {
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
	if (r < 0 && !cg_is_gone(r))
		return r;
	r = cg_walk(dir, remove_beneath, NULL);
	return r < 0 ? r : rmdir_patiently(mount, cg->path + 1, cg->path);
}

/*
 * Removes the parents that caisson made for the cgroup. A parent stays if another container's
 * cgroup is beneath it.
 */
static void remove_parents(const struct cgroup *cg)
{
	char parent[PATH_MAX];
	size_t len = (size_t)(strrchr(cg->path, '/') - cg->path);

	if (cg->scope || !len)
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

	/*
	 * Removes the cgroup even if systemd could not stop the scope, because the cgroup's path is
	 * known.
	 */
	if (cg->path) {
		if (stopped < 0)
			log_debug("systemd scope %s: %s", cg->scope, err_msg());
		int r = remove_tree(cg);
		if (r >= 0)
			remove_parents(cg);
		if (r < 0 || stopped == 0)
			return r;
	}
	return stopped;
}
