/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/delete.h"

#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/pidfd.h>
#include <time.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/process.h"
#include "base/remove.h"
#include "base/rootless.h"
#include "base/subids.h"
#include "launch/hook_output.h"
#include "launch/join.h"
#include "launch/launch.h"
#include "launch/rdt.h"
#include "netsetup/net_tap.h"
#include "step/step.h"

#define KILL_TIMEOUT_MS 10000

/*
 * Kills INIT, the container's first process, only. If a container has no cgroup, the kernel kills
 * the container's other processes, because INIT is the first process of their pid namespace.
 */
static int kill_init(struct container *c)
{
	_cleanup_fd_ int pidfd = container_pidfd(c);

	if (pidfd == -ESRCH)
		return 0;
	if (pidfd < 0)
		return pidfd;
	if (pidfd_send_signal(pidfd, SIGKILL, NULL, 0) < 0 && errno != ESRCH)
		return err_sys("kill process %d", c->pid);
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	int n = poll(&p, 1, KILL_TIMEOUT_MS);
	if (n == 0)
		return err_set(
			ETIMEDOUT, "process %d of container \"%s\" does not end", c->pid, c->id);
	return 0;
}

static void run_poststop(struct container *c, const struct spec *s)
{
	_cleanup_hook_output_ struct hook_output out = HOOK_OUTPUT_INIT;
	_cleanup_strbuf_ struct strbuf state = {0};

	if (!c->has_poststop)
		return;
	int r = s ? 0 : container_spec(c, &s);
	if (r >= 0)
		r = container_state_json(c, "stopped", 0, &state);
	if (r < 0 || hook_output_open(&out, s) < 0)
		log_warn("%s", err_msg());
	/*
	 * The OCI specification says that a poststop hook that fails is only a warning, and that
	 * the remaining hooks still run.
	 */
	for (size_t i = 0; r >= 0 && i < s->hooks.poststop.n; i++) {
		struct spec_hooks one = {.v = &s->hooks.poststop.v[i], .n = 1};
		if (hooks_run("poststop", &one, strbuf_str(&state), state.len, out.fd) < 0)
			log_warn("%s", err_msg());
	}
}

static void forget_rdt(struct container *c, const struct spec *s)
{
	if (s && s->intel_rdt && rdt_remove(c->id, s->intel_rdt) < 0)
		log_warn("%s", err_msg());
}

int launch_kill(struct container *c)
{
	/*
	 * The container is not thawed before, because the kernel's cgroup.kill reaches frozen
	 * processes too.
	 */
	int r = c->cgroup.path ? cg_kill(&c->cgroup, SIGKILL) : 0;

	return r < 0 ? r : kill_init(c);
}

/*
 * Removes the taps (virtual network interfaces) that a microVM's monitor made in a network
 * namespace that outlives the monitor. If the taps stayed, the namespace would go on sending
 * traffic to taps that no one reads. The monitor cannot remove them itself, because its jail does
 * not allow that.
 */
static void remove_taps(struct container *c, const struct spec *s)
{
	int r = s ? 0 : container_spec(c, &s);
	const char *path = r < 0 ? NULL : s->ns[SPEC_NS_NETWORK].path;

	if (!path)
		return;
	_cleanup_fd_ int netns = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	/* If the network namespace is gone, the taps that were in it are gone too. */
	if (netns < 0)
		return;
	if (net_tap_sweep(netns) < 0)
		log_warn("%s", err_msg());
}

/*
 * Removes the tree in a child process that is the root of a user namespace, because the tree has
 * files of the ids that subuid(5) gives to this user.
 */
static int remove_as_root(int dir, const char *name)
{
	struct rootless rootless;
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return err_sys("make a process");
	if (pid == 0) {
		int r = rootless_become_root(&rootless);
		if (r >= 0)
			r = remove_tree(dir, name, NULL);
		_exit(r < 0 ? 1 : 0);
	}
	int r = process_wait(pid, "the removal", &status);
	if (r < 0 || status == 0)
		return r;
	return err_set(EACCES, "it has files of other users, which this user may not remove: check "
			       "the ranges in " SUBIDS_USERS " and " SUBIDS_GROUPS);
}

/*
 * Removes the bundle's directory that `run --image` made for the container. This happens before
 * state.json is removed, so that a second `delete` can finish the removal if this one is
 * interrupted.
 */
int launch_remove_bundle(struct arena *a, const char *path)
{
	const char *slash = strrchr(path, '/');

	if (!slash || !slash[1])
		return err_set(EINVAL, "the bundle %s cannot be removed", path);
	const char *above = arena_strndup(a, path, (size_t)(slash - path));
	if (!above)
		return -ENOMEM;
	_cleanup_fd_ int dir = open(*above ? above : "/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return errno == ENOENT ? 0 : err_sys("open %s", above);
	int r = remove_tree(dir, slash + 1, NULL);
	if ((r == -EACCES || r == -EPERM) && geteuid() != 0)
		r = remove_as_root(dir, slash + 1);
	return r < 0 ? err_ctx(r, "the bundle %s", path) : 0;
}

static int clean_up(struct container *c, const struct spec *s)
{
	if (c->vm)
		remove_taps(c, s);
	join_undo(c);
	int r = cg_destroy(&c->cgroup);
	if (r < 0)
		return r;
	forget_rdt(c, s);
	if (c->remove_bundle)
		r = launch_remove_bundle(&c->arena, c->bundle);
	if (r >= 0)
		r = container_remove(c);
	if (r >= 0)
		run_poststop(c, s);
	return r;
}

int launch_cleanup(struct container *c, const struct spec *s)
{
	int r = launch_kill(c);

	return r < 0 ? r : clean_up(c, s);
}

/*
 * Cleans up after a container whose first process has ended. Other processes of the container are
 * rarely left then, so in general the function kills none before it cleans up; if the cgroup cannot
 * be removed because processes are in it, cg_destroy() kills these. The function kills all
 * processes first only if networks or a microVM's taps must be removed, or if systemd would
 * otherwise wait for the end of the processes.
 */
static int clean_up_ended(struct container *c, const struct spec *s)
{
	if (c->vm || c->has_networks || c->cgroup.scope)
		return launch_cleanup(c, s);
	return clean_up(c, s);
}

int launch_end(struct container *c, const struct spec *s)
{
	int r = container_lock(c);

	/*
	 * The error ENOENT means that another command has already deleted the container and run its
	 * hooks. If a container with this ID exists now, it is a new one and must stay.
	 */
	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : clean_up_ended(c, s);
}

/*
 * Says whether the cgroup has no processes now or within a second. A process that was just killed
 * may need such a time to leave the cgroup. The caller guessed the cgroup's path from the
 * container's ID, so a cgroup with processes may belong to a container with the same ID under
 * another --root.
 */
static bool is_cgroup_empty_soon(struct container *c)
{
	const struct timespec moment = {.tv_nsec = 20 * 1000 * 1000};
	pid_t *pids;
	size_t n = 0;

	for (int i = 0; i < 50; i++) {
		if (cg_pids(&c->arena, &c->cgroup, &pids, &n) < 0 || !n)
			break;
		nanosleep(&moment, NULL);
	}
	return !n;
}

/*
 * Finds the cgroup of a container whose state.json is damaged, by the path in config.json. A cgroup
 * that systemd made is not found in this way, but systemd removes an empty scope by itself.
 */
static void recover_state(struct container *c, const struct spec **ret)
{
	struct cg_options o = {.id = c->id, .rootless = container_for_user()};

	bool known = container_spec(c, ret) >= 0;
	if (known) {
		o.cgroups_path = (*ret)->cgroups_path;
		c->has_poststop = (*ret)->hooks.poststop.n > 0;
		c->bundle = "";
	} else {
		log_warn("cannot find out what is left of the container: %s", err_msg());
	}
	c->has_networks = join_is_on_record(c);
	if (cg_resolve(&c->arena, &o, &c->cgroup) < 0)
		log_warn("cannot find out the container's cgroup: %s", err_msg());
	if (!known && !is_cgroup_empty_soon(c))
		c->cgroup.path = NULL;
}

int launch_delete(struct container *c, bool force)
{
	enum container_status status;
	const struct spec *s = NULL;

	if (force && !c->bundle)
		recover_state(c, &s);
	int r = container_status(c, &status);
	if (r < 0 && !force)
		return r;
	/*
	 * A container that was never started is deleted even without --force, because no work is
	 * lost, and because engines rely on it: runc and crun do the same.
	 */
	if (!force && status != CONTAINER_STOPPED && status != CONTAINER_CREATED)
		return err_set(EBUSY,
			"cannot delete container %s that is not stopped: %s (kill it first, or use "
			"--force)",
			c->id, container_status_name(status));
	/*
	 * config.json is parsed before anything is removed, because the hooks that it names run
	 * after config.json itself is removed.
	 */
	if (!s && (c->has_poststop || c->has_rdt) && container_spec(c, &s) < 0)
		log_warn("%s", err_msg());
	return r >= 0 && status == CONTAINER_STOPPED ? clean_up_ended(c, s) : launch_cleanup(c, s);
}
