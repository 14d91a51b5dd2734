/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes and enters cgroups.
 *
 * A controller works in a cgroup only if every cgroup above that cgroup lists the controller in
 * cgroup.subtree_control. Like runc and crun, caisson enables all controllers that the mount
 * offers, because `stats` and a later `update` use them. caisson ignores failures: a cgroup that
 * holds processes cannot hand out memory or io ("no internal processes"), and an ordinary user
 * cannot write above the cgroup that was delegated. A failure becomes an error only if a limit
 * needs the controller; cg_explain_missing() words that error. caisson never moves other processes
 * out of the way, because they are not its own.
 *
 * The usual case is short, because every container start takes it: read the mount's controllers,
 * make one directory, and see in the new cgroup's own list that nothing is missing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "base/log.h"
#include "cgroups/cg_internal.h"

#define ATTACH_TRIES 5
#define MAKE_TRIES 20

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* Formats the words of the list `available` that the list `enabled` lacks, as "+a +b". */
static void format_missing(const char *available, const char *enabled, char *ret, size_t size)
{
	size_t n = 0;

	ret[0] = '\0';
	while (*available) {
		size_t len = strcspn(available, " ");
		if (len && !cg_list_has(enabled, available, len) && n + len + 3 < size)
			n += (size_t)snprintf(
				ret + n, size - n, "%s+%.*s", n ? " " : "", (int)len, available);
		available += len + (available[len] == ' ');
	}
}

/*
 * Enables the available controllers in one cgroup. If the cgroup holds processes, the kernel
 * refuses the whole line with EBUSY, and the cgroup stays as it is. The kernel would accept the
 * threaded controllers (cpu, pids, cpuset) one by one, but then the cgroup would become a "threaded
 * domain", beneath which no ordinary cgroup can be.
 */
static void enable_controllers_in(int dir, const char *available)
{
	const char *file = "cgroup.subtree_control";
	char enabled[CG_LIST_MAX], wanted[CG_LIST_MAX], own[CG_LIST_MAX];

	if (cg_read(dir, file, enabled, sizeof(enabled)) < 0)
		return;
	format_missing(available, enabled, wanted, sizeof(wanted));
	if (!*wanted)
		return;
	int r = cg_write(dir, file, wanted);
	/*
	 * ENOENT means that the cgroup does not have all controllers that were to be enabled. So a
	 * second write enables only those that the cgroup has.
	 */
	if (r == -ENOENT && cg_read(dir, "cgroup.controllers", own, sizeof(own)) == 0) {
		format_missing(own, enabled, wanted, sizeof(wanted));
		r = *wanted ? cg_write(dir, file, wanted) : 0;
	}
	if (r >= 0 || r == -EBUSY || r == -EACCES || r == -EPERM || r == -EROFS)
		return;
	/*
	 * Enables the controllers one by one, because the kernel accepts or refuses all words of
	 * one write together. It refuses cpu, for example, if a real-time task is in the cgroup.
	 */
	char *save = NULL;
	for (char *one = strtok_r(wanted, " ", &save); one; one = strtok_r(NULL, " ", &save)) {
		r = cg_write(dir, file, one);
		if (r < 0)
			log_debug("cgroup controller %s: %s", one, cg_strerror(-r));
		if (r == -EBUSY)
			return;
	}
}

void cg_enable_controllers(int mount, const char *path, const char *available)
{
	char prefix[PATH_MAX];

	snprintf(prefix, sizeof(prefix), "%s", path);
	for (size_t at = 0; path[at]; at += 1 + strcspn(path + at + 1, "/")) {
		prefix[at] = '\0';
		_cleanup_fd_ int dir = cg_open_dir(mount, at ? prefix : "/", O_PATH);
		prefix[at] = '/';
		if (dir >= 0)
			enable_controllers_in(dir, available);
	}
	err_clear();
}

static int err_create(int code, const char *path)
{
	const char *hint = "";

	if (code == EACCES || code == EPERM)
		hint = ": run it in a cgroup delegated to this user, e.g. beneath \"systemd-run "
		       "--user --scope -p Delegate=yes\", or with --systemd-cgroup";
	else if (code == EAGAIN)
		hint = ": a cgroup above has reached cgroup.max.descendants or cgroup.max.depth";
	else if (code == EROFS)
		hint = ": the cgroup file system is mounted read-only";
	return err_set(code, "create cgroup %s: %s%s", path, cg_strerror(code), hint);
}

/*
 * Makes the directories of the path one after the other. Returns 1 if the last directory is new, 0
 * if it existed, or -errno.
 */
static int make_each(int mount, const char *path)
{
	char prefix[PATH_MAX];
	int made = 0;

	snprintf(prefix, sizeof(prefix), "%s", path);
	for (size_t at = 1; at < strlen(path);) {
		size_t end = at + strcspn(path + at, "/");
		prefix[end] = '\0';
		made = mkdirat(mount, prefix + 1, 0755) == 0;
		if (!made && errno != EEXIST) {
			int code = errno;
			prefix[at - 1] = '\0';
			cg_remove_made(mount, prefix, at - 1);
			return -code;
		}
		if (made && path[end])
			cg_mark_made(mount, prefix);
		prefix[end] = path[end];
		at = end + 1;
	}
	return made;
}

/*
 * Makes all directories of the path. Returns 1 if the last directory is new, 0 if it existed. If
 * another caisson process removes one of the parents in the meantime, because its own container has
 * ended, the function makes all directories anew.
 */
static int make_dirs(int mount, const char *path)
{
	if (mkdirat(mount, path + 1, 0755) == 0)
		return 1;
	if (errno != ENOENT)
		return errno == EEXIST ? 0 : err_create(errno, path);
	int r = -ENOENT;
	for (int i = 0; i < MAKE_TRIES && r == -ENOENT; i++)
		r = make_each(mount, path);
	return r < 0 ? err_create(-r, path) : r;
}

/*
 * Refuses an existing cgroup that holds processes, because these would share the container's
 * limits; the specification allows a runtime to refuse such a cgroup. Refuses a frozen cgroup, and
 * a new one beneath a frozen one, because the container's first process would hang in it.
 */
static int check_reused(int leaf, const char *path)
{
	char events[256];
	uint64_t v;
	int r = cg_read(leaf, "cgroup.events", events, sizeof(events));

	if (r < 0)
		return cg_err_file(r, NULL, "cgroup.events", "", path);
	if (cg_find_key(events, "populated", &v) == 0 && v)
		return err_set(EBUSY,
			"cgroup %s exists and is not empty: another container, or what was left "
			"of one, runs in it",
			path);
	if (cg_find_key(events, "frozen", &v) == 0 && v)
		return err_set(EBUSY,
			"cgroup %s is frozen, or one above it is: a process in it would not run: "
			"thaw it, or choose another linux.cgroupsPath",
			path);
	return 0;
}

static int prepare_leaf(int mount, int leaf, const char *path, const char *available)
{
	char has[CG_LIST_MAX], type[64];

	if (!*available)
		return 0;
	int r = cg_read(leaf, "cgroup.controllers", has, sizeof(has));
	if (r < 0)
		return cg_err_file(r, NULL, "cgroup.controllers", "", path);
	if (cg_list_covers(has, available))
		return 0;
	cg_enable_controllers(mount, path, available);
	/*
	 * Makes a new cgroup beneath a threaded one threaded too, because no process can enter it
	 * before that.
	 */
	if (cg_read(leaf, "cgroup.type", type, sizeof(type)) == 0 &&
		streq(type, "domain invalid") && cg_write(leaf, "cgroup.type", "threaded") < 0)
		return err_set(EOPNOTSUPP,
			"cgroup %s is beneath a threaded cgroup and can't be entered: choose "
			"another linux.cgroupsPath",
			path);
	return 0;
}

/*
 * Returns the result for a container without a cgroup: 0, or -errno with a message if limits were
 * asked for.
 */
static int without_cgroup(const struct cgroup *cg, const struct cg_resources *res)
{
	if (!res || !cg_wants_limits(res))
		return 0;
	if (cg->manager == CG_DISABLED || cg->lenient) {
		log_warn("linux.resources: the limits are not applied: %s",
			cg->manager == CG_DISABLED ? "the cgroup manager is disabled"
						   : cg->refused);
		return 0;
	}
	return err_set(EACCES,
		"linux.resources asks for limits, but %s. Run the command in a cgroup delegated to "
		"this user, e.g. beneath \"systemd-run --user --scope -p Delegate=yes\", or use "
		"--systemd-cgroup, or take the limits out",
		cg->refused ? cg->refused : "the container has no cgroup");
}

int cg_create(const struct cgroup *cg, const struct cg_resources *res)
{
	char available[CG_LIST_MAX];

	if (cg->manager == CG_SYSTEMD)
		return 0;
	if (!cg->path)
		return without_cgroup(cg, res);
	_cleanup_fd_ int mount = cg_open_mount(cg);
	if (mount < 0)
		return mount;
	int r = cg_read(mount, "cgroup.controllers", available, sizeof(available));
	if (r < 0)
		return cg_err_file(r, NULL, "cgroup.controllers", "", "/");
	int made = make_dirs(mount, cg->path);
	if (made < 0)
		return made;
	_cleanup_fd_ int leaf = cg_open_dir(mount, cg->path, O_PATH);
	/*
	 * A new cgroup directly beneath the root cgroup needs no check, because it can be neither
	 * frozen nor in use.
	 */
	if (leaf < 0)
		r = leaf;
	else if (!made || strchr(cg->path + 1, '/'))
		r = check_reused(leaf, cg->path);
	if (r >= 0)
		r = prepare_leaf(mount, leaf, cg->path, available);
	/*
	 * After a failure, removes the new cgroup and the parents that were made for it. The path
	 * of the cgroup is always longer than cg->kept, so the cgroup itself is removed too.
	 */
	if (r < 0 && made)
		cg_remove_made(mount, cg->path, cg->kept);
	return r;
}

bool cg_clone_into(const struct cgroup *cg)
{
	/*
	 * The kernel does not let an ordinary user move a process into the cgroups of the user's
	 * systemd. Therefore cg_attach() asks that systemd to move the process.
	 */
	return cg->path && !(cg->scope && cg->user_instance);
}

static int write_pid(int dir, pid_t pid)
{
	char text[16];
	int r = -EINVAL;

	snprintf(text, sizeof(text), "%d", pid);
	/*
	 * Repeats the write of the pid to cgroup.procs after EINVAL, because the kernel answers
	 * EINVAL while the process is still being forked.
	 */
	for (int i = 0; i < ATTACH_TRIES && r == -EINVAL; i++) {
		if (i)
			pause_ms(10 << i);
		r = cg_write(dir, "cgroup.procs", text);
	}
	return r;
}

int cg_attach(struct arena *a, struct cgroup *cg, const struct cg_options *opt,
	const struct cg_resources *res, pid_t pid)
{
	if (cg->manager == CG_SYSTEMD && !cg->path)
		return cg_systemd_start(a, cg, opt, res, pid);
	if (!cg->path)
		return 0;
	_cleanup_fd_ int dir = cg_open(cg);
	if (dir < 0)
		return dir;
	int r = write_pid(dir, pid);
	if ((r == -EACCES || r == -EPERM) && cg->scope)
		return cg_systemd_attach(cg, pid);
	if (r == -ESRCH)
		return err_set(
			ESRCH, "move process %d to cgroup %s: no such process", pid, cg->path);
	if (r == -EBUSY)
		return err_set(EBUSY,
			"move process %d to cgroup %s: it hands controllers out to cgroups beneath "
			"it, so that processes can only be in those",
			pid, cg->path);
	if (r < 0)
		return err_set(
			-r, "move process %d to cgroup %s: %s", pid, cg->path, cg_strerror(-r));
	return 0;
}

/* The file in which the kernel, since Linux 4.15, lists the control files that can be delegated. */
#define DELEGATE_LIST "/sys/kernel/cgroup/delegate"

int cg_delegate(const struct cgroup *cg, uid_t uid)
{
	_cleanup_strbuf_ struct strbuf list = {0};

	if (!cg->path)
		return 0;
	_cleanup_fd_ int dir = cg_open(cg);
	if (dir < 0)
		return dir;
	if (fchown(dir, uid, (gid_t)-1) < 0)
		return err_set(
			errno, "give cgroup %s to user %u: %s", cg->path, uid, cg_strerror(errno));
	int r = fd_read_file(AT_FDCWD, DELEGATE_LIST, &list, 65536);
	if (r < 0) {
		err_clear();
		strbuf_reset(&list);
		r = strbuf_addf(&list, "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n");
		if (r < 0)
			return r;
	}
	char *save = NULL;
	for (char *f = strtok_r(list.s, "\n", &save); f; f = strtok_r(NULL, "\n", &save))
		if (fchownat(dir, f, uid, (gid_t)-1, AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT)
			return err_set(errno, "give %s of cgroup %s to user %u: %s", f, cg->path,
				uid, cg_strerror(errno));
	return 0;
}
