/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words the error message for a limit whose controller is missing: what has the controller, or
 * which cgroup does not hand it out, and what the user can do.
 */
#include <stdio.h>
#include <stdlib.h>

#include "cgroups/cg_internal.h"

#define MOUNTINFO_MAX (16 * 1024 * 1024)
#define UNIFIED_HINT \
	"boot with systemd.unified_cgroup_hierarchy=1, or (without systemd) with cgroup_no_v1=%s"

/*
 * Reads /proc/cgroups, whose lines are: name, hierarchy, number of cgroups, enabled. Returns 1 if
 * the kernel has enabled the controller, 0 if it has disabled the controller, and -1 if the file
 * does not list the controller.
 */
static int kernel_has_controller(const char *controller)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	const char *name = streq(controller, "io") ? "blkio" : controller;
	size_t len = strlen(name);
	int hierarchy, count, enabled;

	if (fd_read_file(AT_FDCWD, "/proc/cgroups", &text, 65536) < 0)
		return 1;
	for (const char *p = strbuf_str(&text); *p; p += strcspn(p, "\n"), p += *p == '\n')
		if (strncmp(p, name, len) == 0 &&
			sscanf(p + len, "\t%d\t%d\t%d", &hierarchy, &count, &enabled) == 3)
			return enabled;
	return -1;
}

static int err_not_on_v2(struct arena *a, const char *controller, const char *field)
{
	_cleanup_strbuf_ struct strbuf mounts = {0};
	const char *holder = NULL;
	int r = fd_read_file(AT_FDCWD, "/proc/self/mountinfo", &mounts, MOUNTINFO_MAX);

	if (r == 0)
		r = cg_v1_holder(a, strbuf_str(&mounts), controller, &holder);
	if (r < 0)
		return r;
	if (holder)
		return err_set(EOPNOTSUPP,
			"%s: the %s controller is on cgroup v1 at %s, and only cgroup v2 is "
			"supported; " UNIFIED_HINT,
			field, controller, holder, controller);
	switch (kernel_has_controller(controller)) {
	case -1:
		return err_set(EOPNOTSUPP,
			"%s: this kernel has no \"%s\" cgroup controller (not built in, or the "
			"name is wrong)",
			field, controller);
	case 0:
		return err_set(EOPNOTSUPP,
			"%s: the %s cgroup controller is switched off; boot without "
			"cgroup_disable=%s",
			field, controller, controller);
	default:
		return err_set(EOPNOTSUPP,
			"%s: the %s controller is not offered by the cgroup2 mount: inside a "
			"container it must be delegated from outside, else " UNIFIED_HINT,
			field, controller, controller);
	}
}

static int err_kept_back(int dir, const char *path, const char *controller, const char *field)
{
	char word[64], type[64] = "", procs[4096] = "";
	/*
	 * Reads only the beginning of the list of processes, because the message names just one
	 * process as an example.
	 */
	_cleanup_fd_ int fd = openat(dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 || streq(path, "/") ? -1 : read(fd, procs, sizeof(procs) - 1);

	procs[n > 0 ? n : 0] = '\0';
	procs[strcspn(procs, "\n")] = '\0';
	/*
	 * If the cgroup itself holds processes, caisson has not enabled the controller for the
	 * cgroups beneath it; the comment of enable_controllers_in() says why.
	 */
	if (n > 0)
		return err_set(EBUSY,
			"%s: cgroup %s can't hand out the %s controller because it holds processes "
			"itself (such as %s), and cgroup v2 allows one or the other; choose a "
			"linux.cgroupsPath elsewhere, or move them",
			field, path, controller,
			streq(procs, "0") ? "one of another pid namespace" : procs);
	snprintf(word, sizeof(word), "+%s", controller);
	int r = cg_write(dir, "cgroup.subtree_control", word);
	if (cg_read(dir, "cgroup.type", type, sizeof(type)) == 0 && strstr(type, "threaded"))
		return err_set(EOPNOTSUPP,
			"%s: cgroup %s is threaded and can't hand out the %s controller; choose a "
			"linux.cgroupsPath elsewhere",
			field, path, controller);
	if (r == -EACCES || r == -EPERM)
		return err_set(EACCES,
			"%s: the %s controller is not delegated to this user: it is missing in "
			"cgroup.subtree_control of cgroup %s; with systemd set Delegate=%s for "
			"user@.service",
			field, controller, path, controller);
	return cg_err_file(r < 0 ? r : -EIO, field, "cgroup.subtree_control", word, path);
}

int cg_explain_missing(const struct cgroup *cg, const char *controller, const char *field)
{
	_cleanup_arena_ struct arena a = {0};
	char list[CG_LIST_MAX], prefix[PATH_MAX];
	size_t len = strlen(controller);
	_cleanup_fd_ int mount = cg_open_mount(cg);

	if (mount < 0)
		return mount;
	int r = cg_read(mount, "cgroup.controllers", list, sizeof(list));
	if (r < 0 || !cg_list_has(list, controller, len))
		return err_not_on_v2(&a, controller, field);
	snprintf(prefix, sizeof(prefix), "%s", cg->path);
	for (size_t at = 0; cg->path[at]; at += 1 + strcspn(cg->path + at + 1, "/")) {
		prefix[at] = '\0';
		const char *name = at ? prefix : "/";
		_cleanup_fd_ int dir = cg_open_dir(mount, name, O_PATH);
		if (dir < 0)
			return dir;
		r = cg_read(dir, "cgroup.subtree_control", list, sizeof(list));
		if (r < 0 || !cg_list_has(list, controller, len))
			return err_kept_back(dir, name, controller, field);
		prefix[at] = '/';
	}
	return err_set(EIO,
		"%s: the %s controller appeared and disappeared in cgroup %s: try again", field,
		controller, cg->path);
}
