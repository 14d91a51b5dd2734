/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. One clone3(2) makes INIT, the container's first process, in all its new
 * namespaces and in its cgroup. If the plan has a FORK step, clone3(2) makes a stage instead: a
 * process outside of the container's pid namespace, which makes INIT as its child. The stage first
 * enters or makes the namespaces that only its child can be in (step/fork.c). Then the stage makes
 * the child with CLONE_PARENT, so that the child is a child of the runtime too, sends the child's
 * pid on the channel, and ends.
 */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/interrupt.h"
#include "base/sys.h"
#include "ns/channel.h"
#include "ns/clone.h"
#include "ns/ns.h"

/*
 * Says whether the process of pidfd and this process are in the same namespace of the type `name`.
 */
static bool is_same_namespace(int pidfd, const char *name)
{
	char path[64], line[64];
	struct stat ours, theirs;
	_cleanup_strbuf_ struct strbuf info = {0};

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	if (fd_read_file(AT_FDCWD, path, &info, 4096) < 0)
		return false;
	const char *pid = strstr(strbuf_str(&info), "\nPid:");
	if (!pid || sscanf(pid, "\nPid: %32s", line) != 1)
		return false;
	snprintf(path, sizeof(path), "/proc/%.32s/ns/%s", line, name);
	if (stat(path, &theirs) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	return stat(path, &ours) == 0 && ours.st_ino == theirs.st_ino &&
	       ours.st_dev == theirs.st_dev;
}

uint64_t ns_flags_to_enter(int pidfd, uint64_t flags)
{
	if ((flags & CLONE_NEWUSER) && is_same_namespace(pidfd, "user"))
		flags &= ~(uint64_t)CLONE_NEWUSER;
	return flags;
}

int ns_take_forked(pid_t pid, struct ns_child *child)
{
	/*
	 * The pid cannot belong to another process by now, because the new process is a child of
	 * this process and is not reaped yet.
	 */
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (pidfd < 0)
		return err_sys("open a pidfd of the container's first process");
	while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
		;
	fd_close(&child->pidfd);
	*child = (struct ns_child){.pid = pid, .pidfd = pidfd};
	return 0;
}

int ns_await_fork(int channel, int interrupt, struct ns_child *child, ns_told_fn told, void *data)
{
	for (;;) {
		struct channel_msg m;
		_cleanup_fd_ int fd = -EBADF;
		int r = interrupt_wait(interrupt, channel);
		if (r >= 0)
			r = channel_recv(channel, &m, &fd);
		if (r < 0)
			return r;
		if (r == 0)
			return err_set(
				EPROTO, "the process that enters the namespaces ended early");
		if (m.type == CHANNEL_FAILED)
			return err_set(-m.code, "%s", m.text);
		if (m.type == CHANNEL_FORKED)
			return ns_take_forked(m.code, child);
		if (m.type == CHANNEL_STEP && told)
			told(data, &m);
		else if (m.type == CHANNEL_LOG)
			channel_log(&m);
		else if (m.type != CHANNEL_STEP)
			return err_set(EPROTO, "unexpected message from the stage process");
	}
}

int ns_clone_error(uint64_t flags)
{
	int code = errno;

	if (code == ENOSPC)
		return err_sys("linux.namespaces: the kernel's limit of namespaces is reached (see "
			       "/proc/sys/user/max_*_namespaces)");
	if (code == EPERM && (flags & CLONE_NEWUSER))
		return err_sys(
			"linux.namespaces: this kernel does not let this user make a user "
			"namespace "
			"(sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces)");
	if (code == ENOSYS || code == E2BIG)
		return err_sys("clone3: caisson needs Linux 5.14 or newer, and a seccomp profile "
			       "that lets clone3 "
			       "through");
	return err_sys("clone the container's first process");
}

int ns_await_hello(int channel)
{
	struct channel_msg m;
	_cleanup_fd_ int fd = -EBADF;

	int r = channel_recv(channel, &m, &fd);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(ESRCH, "the container's first process ended at once");
	if (m.type == CHANNEL_FAILED)
		return err_set(-m.code, "%s", m.text);
	if (m.type != CHANNEL_REACHED || !streq(m.text, CHANNEL_HELLO))
		return err_set(EPROTO, "unexpected message from the container's first process");
	return 0;
}

int ns_clone(const struct ns_clone_args *a, struct ns_child *ret)
{
	int pidfd = -EBADF;
	struct clone_args ca = {
		.flags = a->clone->clone.flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND |
			 (a->cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)(a->cgroup >= 0 ? a->cgroup : 0),
	};
	pid_t pid = sys_clone3(&ca);
	if (pid < 0)
		return ns_clone_error(ca.flags);
	if (pid == 0)
		return 0;
	*ret = (struct ns_child){.pid = pid, .pidfd = pidfd};
	return 1;
}
