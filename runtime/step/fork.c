/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps by which a process enters namespaces that already exist, and forks. The fork is needed
 * because setns(2) of a pid namespace and unshare(2) of a time namespace take effect only for
 * children of the caller.
 */
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "base/aside.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/sys.h"
#include "step/step.h"

/*
 * Returns a detached mount of a new procfs of this process's pid namespace. If that fails, returns
 * a negative number without an error message.
 */
static int make_private_proc(void)
{
	_cleanup_fd_ int fs = fsopen("proc", FSOPEN_CLOEXEC);

	if (fs < 0 || fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return -1;
	return fsmount(
		fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

static int make_proc_aside(void *data, int *fds)
{
	fds[0] = make_private_proc();
	return 0;
}

static int join_failed(const struct step *s)
{
	const char *name = plan_ns_name(s->ns.type);
	int code = errno;

	if (code != EPERM)
		return err_sys("join the %s namespace %s", name, s->ns.path);
	return err_set(code,
		"join the %s namespace %s: not permitted: this takes CAP_SYS_ADMIN in the user "
		"namespace that owns it, and in the one that the container is in",
		name, s->ns.path);
}

int step_join(struct step_ctx *c, const struct step *s)
{
	if (setns(c->slots[s->slot], (int)plan_ns_flag(s->ns.type)) < 0)
		return join_failed(s);
	if (s->ns.type != SPEC_NS_PID || !c->plan->userns)
		return 0;
	/*
	 * A child of this process makes the procfs, because this process itself stays in its old
	 * pid namespace and only its children are in the joined one. The procfs is made before this
	 * process enters the user namespace, because the kernel makes no procfs in a user namespace
	 * that does not own the pid namespace.
	 */
	return aside_run(0, make_proc_aside, NULL, &c->joined_proc, 1);
}

static bool has_listener(const struct plan *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->steps[i].kind == STEP_SECCOMP && p->steps[i].seccomp.seccomp->notify)
			return true;
	return false;
}

/*
 * Enters the namespaces of the container's first process, for an exec. If the container has no user
 * namespace of its own, c->enter_flags has no CLONE_NEWUSER, because setns(2) into the caller's own
 * user namespace fails with EINVAL.
 */
int step_enter(struct step_ctx *c, const struct step *s)
{
	/*
	 * The thread that hands over a seccomp listener cannot be started after this process has
	 * entered the pid namespace, because the kernel makes no thread in a process whose children
	 * get another pid namespace. So the other namespaces are entered first, then the thread is
	 * started, then the pid namespace is entered. The pid namespace has a descriptor of its
	 * own, c->pid_ns, because once this process is in the other namespaces, it may not look at
	 * the container's first process in /proc any more.
	 */
	const bool split = has_listener(c->plan) && c->enter_flags & CLONE_NEWPID;
	const uint64_t flags = c->enter_flags & ~(uint64_t)(split ? CLONE_NEWPID : 0);

	if (flags && setns(c->container, (int)flags) < 0)
		return err_sys("enter the namespaces of the container");
	int r = split ? seccomp_start_sender(c) : 0;
	if (r < 0)
		return r;
	if (split && setns(c->pid_ns, CLONE_NEWPID) < 0)
		return err_sys("enter the pid namespace of the container");
	/*
	 * An exec opens the container's root here, because its plan has no ATTACH_ROOT step, and
	 * because "/" is the container's root now that this process has entered the mount
	 * namespace.
	 */
	c->root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return c->root < 0 ? err_sys("open the container's root") : 0;
}

int step_time_ns(struct step_ctx *c, const struct step *s)
{
	char text[128] = "";
	int len = 0;

	if (unshare(CLONE_NEWTIME) < 0)
		return err_sys("make a time namespace");
	if (s->time.monotonic.set)
		len += snprintf(text, sizeof(text), "monotonic %" PRId64 " %u\n",
			s->time.monotonic.secs, s->time.monotonic.nanosecs);
	if (s->time.boottime.set)
		len += snprintf(text + len, sizeof(text) - (size_t)len, "boottime %" PRId64 " %u\n",
			s->time.boottime.secs, s->time.boottime.nanosecs);
	return len ? path_write_proc(c->proc, "self/timens_offsets", text) : 0;
}

/*
 * Waits, in the child that the step FORK made, until the parent has reported the child's pid to the
 * runtime and has ended. Returns the child's pid as the parent saw it, or 0.
 */
static pid_t wait_for_end(int fd)
{
	pid_t pid = 0, got;
	ssize_t n;

	while ((n = read(fd, &got, sizeof(got))) > 0 || (n < 0 && errno == EINTR))
		if (n == (ssize_t)sizeof(got))
			pid = got;
	close(fd);
	return pid;
}

/*
 * Forks by clone(2) and not clone3(2), because a system call filter may be loaded already, and
 * filters allow clone(2) more often than clone3(2).
 */
static pid_t fork_under_filter(void)
{
	return (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
}

static bool joins_pid_ns(const struct plan *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->steps[i].kind == STEP_JOIN && p->steps[i].ns.type == SPEC_NS_PID)
			return true;
	return false;
}

/*
 * Gives the child that the step FORK made a new procfs. Other containers may be in the pid
 * namespace that was joined, and can look at the child's descriptors. So the child must not have
 * the host's procfs, which shows the host's processes, but a procfs that shows only what those
 * containers see already. In a user namespace the kernel may refuse to make one.
 */
static int replace_proc(struct step_ctx *c)
{
	int fd = c->joined_proc >= 0 ? take_fd(&c->joined_proc) : make_private_proc();

	c->proc = fd >= 0 ? fd : path_open_proc();
	return c->proc < 0 ? c->proc : 0;
}

static pid_t fork_into_namespaces(struct step_ctx *c, const struct step *s)
{
	struct clone_args args = {.flags = s->fork.flags | CLONE_PARENT};
	int end[2];

	if (pipe2(end, O_CLOEXEC) < 0)
		return -1;
	pid_t pid = sys_clone3(&args);
	if (pid > 0 && write(end[1], &pid, sizeof(pid)) < 0)
		/*
		 * The parent writes the child's pid into a pipe. A failure of write(2) is ignored,
		 * because the child can go on without knowing its pid. write(2) never waits,
		 * because the pipe is empty.
		 */
		err_clear();
	if (pid != 0)
		return pid;
	close(end[1]);
	pid_t own = wait_for_end(end[0]);
	if (c->peer.reborn)
		c->peer.reborn(c->peer.data, own);
	return 0;
}

/*
 * Makes this process, the child that the step FORK made, the leader of a session of its own. The
 * terminal on which caisson was started can then send the process no signals, and the process can
 * have the container's terminal as its controlling terminal.
 */
static int lead_session(struct step_ctx *c)
{
	c->forked = true;
	if (setsid() < 0)
		return err_sys("start a session");
	if (c->console >= 0 && ioctl(STDIN_FILENO, TIOCSCTTY, 0) < 0)
		return err_sys("make the terminal the controlling one");
	return 0;
}

int step_fork(struct step_ctx *c, const struct step *s)
{
	const bool hide_proc = s->fork.staged && joins_pid_ns(c->plan);

	if (hide_proc)
		fd_close(&c->proc);
	pid_t pid = s->fork.staged ? fork_into_namespaces(c, s) : fork_under_filter();
	/* clone(2) fails with ENOMEM if the first process of the joined pid namespace has ended. */
	if (pid < 0)
		return err_sys("make the container's process");
	int r = pid == 0 && hide_proc ? replace_proc(c) : 0;
	if (r < 0)
		return r;
	if (pid == 0)
		return lead_session(c);
	r = c->peer.forked(c->peer.data, pid);
	/* If the parent could not tell the runtime the child's pid, the parent kills the child. */
	if (r < 0)
		kill(pid, SIGKILL);
	_exit(r < 0);
}
