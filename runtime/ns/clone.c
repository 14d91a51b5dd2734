/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Usually one clone3(2) makes INIT in all its new namespaces and in its
 * cgroup. If the plan says so (staged_flags), a short-lived process, the stage, is cloned first,
 * because
 *
 * - an existing user namespace must be entered before the namespaces that it is to own are made;
 * - setns(2) to a pid namespace only concerns the caller's children, and the runtime's later
 *   children must not get into the container;
 * - the offsets of a time namespace can be written only while no process is in it;
 * - an exec enters all namespaces of a running container through one pidfd.
 *
 * The stage makes INIT with CLONE_PARENT, so that INIT is still the runtime's child. It sends
 * INIT's pid, as the runtime's pid namespace knows it, and INIT's pidfd, and exits.
 */
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/path.h"
#include "base/sys.h"
#include "ns/channel.h"
#include "ns/ns.h"

static int write_time_offsets(const struct step *clone)
{
	const struct spec_time_offset *monotonic = &clone->clone.monotonic;
	const struct spec_time_offset *boottime = &clone->clone.boottime;
	char text[128];
	int len = 0;

	if (monotonic->set)
		len += snprintf(text, sizeof(text), "monotonic %" PRId64 " %u\n", monotonic->secs,
			monotonic->nanosecs);
	if (boottime->set)
		len += snprintf(text + len, sizeof(text) - (size_t)len, "boottime %" PRId64 " %u\n",
			boottime->secs, boottime->nanosecs);
	if (!len)
		return 0;
	_cleanup_fd_ int proc = path_open_proc();
	int r = proc < 0 ? proc : path_write_proc(proc, "self/timens_offsets", text);
	return r < 0 ? err_ctx(r, "linux.timeOffsets") : 0;
}

/*
 * Says whether the container's namespace of this kind is caisson's own. setns(2) to one's own user
 * namespace fails with EINVAL.
 */
static bool is_same_namespace(int container, const char *name)
{
	char path[64], line[64];
	struct stat ours, theirs;
	_cleanup_strbuf_ struct strbuf info = {0};

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", container);
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

/*
 * If the container ended during an exec, setns(2) fails with ESRCH, and clone3(2) in its pid
 * namespace with ENOMEM. Both mean the same to the user.
 */
static int container_error(const struct ns_clone_args *a, const char *what)
{
	struct pollfd ended = {.fd = a->container, .events = POLLIN};
	int code = errno;

	if (a->container >= 0 && poll(&ended, 1, 0) > 0)
		return err_set(ESRCH, "container not running");
	errno = code;
	return err_sys("%s", what);
}

static int enter_container_namespaces(const struct ns_clone_args *a)
{
	uint64_t flags = a->clone->clone.staged_flags;

	if ((flags & CLONE_NEWUSER) && is_same_namespace(a->container, "user"))
		flags &= ~(uint64_t)CLONE_NEWUSER;
	if (flags && setns(a->container, (int)flags) < 0)
		return container_error(a, "enter the namespaces of the container");
	return 0;
}

static int enter_staged_namespaces(const struct ns_clone_args *a)
{
	uint64_t staged = a->clone->clone.staged_flags;

	if (a->container >= 0)
		return enter_container_namespaces(a);
	for (size_t i = 0; i < a->plan->n; i++) {
		const struct step *s = &a->plan->steps[i];
		if (s->kind != STEP_OPEN_NAMESPACE ||
			(s->ns.type != SPEC_NS_USER && s->ns.type != SPEC_NS_PID))
			continue;
		if (setns(a->slots[s->slot], (int)plan_ns_flag(s->ns.type)) < 0)
			return err_sys("%s: join the %s namespace %s", s->field,
				plan_ns_name(s->ns.type), s->ns.path);
	}
	if (staged & CLONE_NEWTIME) {
		if (unshare(CLONE_NEWTIME) < 0)
			return err_sys("linux.namespaces: make a time namespace");
		return write_time_offsets(a->clone);
	}
	return 0;
}

/* The stage itself never returns from this function; INIT returns 0. */
static int run_stage(const struct ns_clone_args *a, int sock)
{
	uint64_t flags =
		a->clone->clone.flags & ~(a->clone->clone.staged_flags & ~(uint64_t)CLONE_NEWPID);
	int pidfd = -EBADF;

	/*
	 * If there is a new user namespace, the stage was cloned into it, and INIT only has to stay
	 * there.
	 */
	int r = enter_staged_namespaces(a);
	if (r >= 0) {
		struct clone_args ca = {
			.flags = flags | CLONE_PARENT | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
			.pidfd = (uintptr_t)&pidfd,
		};
		pid_t pid = sys_clone3(&ca);
		if (pid == 0)
			return 0;
		r = pid < 0 ? container_error(a, "clone the container's first process") : 0;
		if (r == 0) {
			char text[32];
			snprintf(text, sizeof(text), "%d", pid);
			r = channel_send(sock, CHANNEL_FD, 0, text, pidfd);
			/*
			 * The runtime will never learn of this process, which must not go on: for
			 * an exec it would run the program.
			 */
			if (r < 0)
				pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
			_exit(r < 0);
		}
	}
	if (channel_send(sock, CHANNEL_FAILED, r, err_msg(), -EBADF) < 0)
		_exit(2);
	_exit(1);
}

static int receive_child(int sock, struct ns_child *ret)
{
	struct channel_msg m;
	_cleanup_fd_ int pidfd = -EBADF;

	int r = channel_recv(sock, &m, &pidfd);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(EPROTO, "the process that enters the namespaces ended early");
	if (m.type == CHANNEL_FAILED)
		return err_set(-m.code, "%s", m.text);
	if (m.type != CHANNEL_FD || pidfd < 0 || sscanf(m.text, "%d", &ret->pid) != 1)
		return err_set(EPROTO, "malformed message from the stage process");
	ret->pidfd = take_fd(&pidfd);
	return 0;
}

static int clone_staged(const struct ns_clone_args *a, struct ns_child *ret)
{
	int socks[2];
	int r = channel_pair(socks);

	if (r < 0)
		return r;
	_cleanup_fd_ int ours = socks[0], theirs = socks[1];
	uint64_t new_user = a->clone->clone.flags & CLONE_NEWUSER;
	struct clone_args ca = {
		.flags = new_user | (a->cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)(a->cgroup >= 0 ? a->cgroup : 0),
	};
	pid_t stage = sys_clone3(&ca);
	if (stage < 0)
		return err_sys("clone the stage process");
	if (stage == 0) {
		fd_close(&ours);
		r = run_stage(a, theirs);
		fd_close(&theirs);
		return r;
	}
	fd_close(&theirs);
	r = receive_child(ours, ret);
	while (waitpid(stage, NULL, 0) < 0 && errno == EINTR)
		;
	return r < 0 ? r : 1;
}

static int clone_error(const struct ns_clone_args *a)
{
	int code = errno;

	if (code == ENOSPC)
		return err_sys("linux.namespaces: the kernel's limit of namespaces is reached (see "
			       "/proc/sys/user/max_*_namespaces)");
	if (code == EPERM && (a->clone->clone.flags & CLONE_NEWUSER))
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

int ns_clone(const struct ns_clone_args *a, struct ns_child *ret)
{
	if (a->hide && prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_sys("make this process non-dumpable");
	if (a->clone->clone.staged_flags || a->container >= 0)
		return clone_staged(a, ret);
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
		return clone_error(a);
	if (pid == 0)
		return 0;
	*ret = (struct ns_child){.pid = pid, .pidfd = pidfd};
	return 1;
}
