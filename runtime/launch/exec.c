/* SPDX-License-Identifier: Apache-2.0 */
#include <poll.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "agent/orders.h"
#include "base/fd.h"
#include "base/interrupt.h"
#include "launch/attend.h"
#include "launch/env.h"
#include "launch/handover.h"
#include "launch/host.h"
#include "launch/launch.h"
#include "launch/timeline.h"
#include "launch/vm.h"

/*
 * Checks that the status of the container allows another process. For a container without a
 * microVM, choose_cgroup() later checks whether the container is frozen.
 */
static int check_container_state(struct container *c, const struct exec_options *o)
{
	enum container_status status;

	int r = c->vm ? container_status(c, &status) : container_status_unfrozen(c, &status);
	if (r < 0)
		return r;
	if (status == CONTAINER_PAUSED && !o->ignore_paused)
		return err_set(EBUSY, ORDERS_PAUSED "\"%s\"", c->id);
	/*
	 * The error message ends in "container not running", because engines search for these three
	 * words.
	 */
	if (status == CONTAINER_STOPPED || status == CONTAINER_CREATING)
		return err_set(ESRCH,
			"cannot exec in a %s container: \"%s\": container not running",
			container_status_name(status), c->id);
	return 0;
}

/*
 * Checks the container's status and opens a pidfd of its first process. The pidfd is opened before
 * the status is read: if it were opened afterwards, the process could end in between and its pid
 * could belong to another process.
 */
static int find_process(struct launch *l, const struct exec_options *o)
{
	struct container *c = l->c;
	_cleanup_fd_ int fd = c->vm || c->pid <= 0 ? -EBADF : pidfd_open(c->pid, 0);

	int r = check_container_state(c, o);
	if (r >= 0 && !c->vm && fd < 0)
		return err_set(ESRCH, "container not running");
	if (r >= 0)
		l->exec.container = take_fd(&fd);
	return r;
}

static int check_console_options(const struct exec_options *o)
{
	if (o->process->terminal && o->detach && !o->console_socket)
		return err_set(EINVAL, HANDOVER_NO_CONSOLE
			": --tty with --detach needs --console-socket to receive the terminal");
	if (!o->process->terminal && o->console_socket)
		return err_set(EINVAL, HANDOVER_NO_TERMINAL
			": --console-socket: there is no terminal to send without --tty");
	return 0;
}

static int choose_cgroup(struct launch *l, const struct exec_options *o)
{
	struct container *c = l->c;
	struct cgroup cg = c->cgroup;

	if (!cg.path)
		return o->cgroup ? err_set(EINVAL, "--cgroup: the container has no cgroup") : 0;
	int r = o->cgroup ? cg_child(&c->arena, &c->cgroup, o->cgroup, &cg) : 0;
	if (r < 0)
		return err_ctx(r, "--cgroup");
	_cleanup_fd_ int dir = o->cgroup ? cg_open(&cg) : cg_open_for_exec(&c->arena, &cg, c->pid);
	/*
	 * The kernel is asked whether the cgroup is frozen, because a process of the container may
	 * have frozen the cgroup without caisson.
	 */
	if (!o->ignore_paused && dir >= 0 && cg_dir_is_frozen(dir))
		return err_set(
			EBUSY, ORDERS_PAUSED "\"%s\": its cgroup %s is frozen", c->id, cg.path);
	if (cg_clone_into(&cg))
		return l->cgroup_dir = take_fd(&dir);
	err_clear();
	l->exec.cgroup = cg;
	return 0;
}

static int prepare_exec(struct launch *l, const struct exec_options *o)
{
	struct container *c = l->c;

	int r = check_console_options(o);
	if (r >= 0)
		r = find_process(l, o);
	if (r >= 0)
		r = container_spec(c, &l->spec);
	if (r < 0)
		return r;
	if (c->vm) {
		/*
		 * In VM mode the proxy, the process on the host that stands for the new process in
		 * the guest, itself moves into the container's cgroup.
		 */
		if (c->cgroup.path && cg_clone_into(&c->cgroup))
			r = l->cgroup_dir = cg_open(&c->cgroup);
	} else {
		r = choose_cgroup(l, o);
	}
	if (r < 0)
		return r;
	struct plan_exec_env env = {
		.isolation = c->vm ? PLAN_VM : PLAN_NS,
		/* In a microVM the guest's agent moves the new process into its cgroup. */
		.cgroup_attach = c->vm || l->exec.cgroup.path,
		.spec = l->spec,
		.process = o->process,
		.no_new_keyring = c->no_new_keyring,
		.rootless = geteuid() != 0,
		.keyring = launch_keyring(c),
	};
	if (!env.keyring)
		return -ENOMEM;
	r = plan_build_exec(&c->arena, &env, &l->plan);
	if (r < 0)
		return r;
	l->console_socket = o->console_socket;
	l->preserve_fds = o->preserve_fds + launch_listen_fds();
	if (c->vm && (r = launch_prepare_vm_exec(l, o)) < 0)
		return r;
	struct plan_env none = {0};
	r = launch_env(&c->arena, o->process, &none, &l->env);
	if (r < 0)
		return r;
	return launch_make_slots(l);
}

/*
 * Returns the error that the user should see for the failure r of an exec. If the container's first
 * process ended meanwhile, setns(2) fails with ESRCH, and fork(2) in the container's pid namespace
 * with ENOMEM. In both cases the error says that the container is not running.
 */
static int exec_error(const struct launch *l, int r)
{
	struct pollfd ended = {.fd = l->exec.container, .events = POLLIN};

	if (l->exec.container >= 0 && poll(&ended, 1, 0) > 0)
		return err_set(ESRCH, "container not running");
	return r;
}

int launch_exec(struct container *c, const struct exec_options *o, int *ret_status)
{
	_cleanup_launch_ struct launch l = LAUNCH_INIT;
	_cleanup_timeline_ struct timeline t = TIMELINE_INIT;

	*ret_status = 0;
	l.c = c;
	int r = timeline_open(&t, o->timeline, "exec", &l);
	if (r >= 0)
		r = prepare_exec(&l, o);
	timeline_mark(l.timeline, "build the plan");
	if (r >= 0)
		r = l.interrupt = interrupt_block();
	/*
	 * launch_walk_to() writes the new process's pid into c->pid. So the pid of the container's
	 * first process, which c->pid held, is saved here and put back afterwards.
	 */
	pid_t init = c->pid;
	if (r >= 0)
		r = launch_walk_to(&l, NULL);
	c->pid = init;
	if (r >= 0)
		r = launch_await_exec(&l);
	timeline_executed(&l);
	timeline_write(&l, r < 0 ? "failed" : "running");
	if (r < 0)
		r = exec_error(&l, r);
	if (r >= 0)
		r = handover_pid(o->pid_file, l.child.pid);
	bool wrote_pid_file = r >= 0 && o->pid_file;
	if (r >= 0 && o->pidfd_socket)
		r = handover_pidfd(o->pidfd_socket, "--pidfd-socket", l.child.pidfd);
	if (r < 0) {
		if (wrote_pid_file)
			handover_forget_pid(o->pid_file);
		launch_kill_init(&l);
		return r;
	}
	return o->detach ? 0 : launch_attend(&l.child, &l.console, NULL, ret_status);
}
