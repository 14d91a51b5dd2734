/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Freezes and thaws a cgroup: caisson writes cgroup.freeze, and the kernel reports in cgroup.events
 * when all processes are frozen or thawed.
 */
#include "cgroups/cg_internal.h"

#define FREEZE_TIMEOUT_MS 10000

int cg_freeze(const struct cgroup *cg, bool frozen)
{
	const char *value = frozen ? "1" : "0";
	_cleanup_fd_ int dir = cg_open(cg);

	if (dir < 0)
		return dir;
	int r = cg_write(dir, "cgroup.freeze", value);
	if (r < 0)
		return cg_err_file(r, NULL, "cgroup.freeze", value, cg->path);
	r = cg_wait_event(dir, "frozen", frozen, FREEZE_TIMEOUT_MS);
	if (r == -ETIMEDOUT && frozen) {
		/*
		 * If the processes are not all frozen in time, thaws the cgroup again, because a
		 * cgroup that is only partly frozen is of no use to the caller.
		 */
		(void)!cg_write(dir, "cgroup.freeze", "0");
		return err_set(ETIMEDOUT,
			"freeze cgroup %s: a process in it did not stop within %d s, because it is "
			"stuck in a system call; the cgroup is thawed again",
			cg->path, FREEZE_TIMEOUT_MS / 1000);
	}
	if (r == -ETIMEDOUT)
		return err_set(EBUSY, "thaw cgroup %s: a cgroup above it is frozen", cg->path);
	if (r < 0)
		return err_set(-r, "freeze cgroup %s: it is gone", cg->path);
	return 0;
}

static int read_frozen(int dir)
{
	char events[256];
	uint64_t v = 0;
	int r = cg_read(dir, "cgroup.events", events, sizeof(events));

	return r < 0 ? r : cg_find_key(events, "frozen", &v) == 0 && v != 0;
}

int cg_is_frozen(const struct cgroup *cg)
{
	if (!cg->path)
		return 0;
	_cleanup_fd_ int dir = cg_open(cg);
	if (dir < 0)
		return dir;
	int r = read_frozen(dir);
	return r < 0 ? err_set(-r, "read cgroup.events of cgroup %s: %s", cg->path, cg_strerror(-r))
		     : r;
}

bool cg_dir_is_frozen(int dir)
{
	int r = read_frozen(dir);

	if (r < 0)
		err_clear();
	return r > 0;
}
