/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The new process shares the caller's memory until it executes caisson-init
 * (CLONE_VM), as with vfork(2), which saves copying the page tables. The new process runs on a
 * stack of its own, reads nothing of the caller's memory but `struct spawn`, and calls only thin
 * wrappers of system calls. If the memory of the new process's cgroup runs out meanwhile, the
 * kernel kills a process of that cgroup and every process that shares memory with it, so the
 * runtime would die too. So the plan has the step CGROUP_LIMIT after the step CLONE, and a process
 * that is cloned into a cgroup that may have limits already gets memory of its own.
 *
 * Until the execve(2) of the new process the caller works on something else (meanwhile()). The two
 * processes need no lock for that, because the new process changes nothing but its own stack. Then
 * the caller waits for the execve(2), which closes a pipe, but not longer than WAIT_MS, because in
 * a frozen cgroup the new process does not execute before it is thawed. CLONE_VFORK is not used,
 * because the caller could not react to signals then.
 *
 * execve(2) decides about capabilities:
 *
 *   - In a new user namespace no id is mapped yet, so execve(2) would drop all capabilities. They
 *     are put into the ambient set, which survives execve(2); the step MAPPED_ROOT clears that set.
 *   - Elsewhere root gets all capabilities from execve(2). The two that would let it read the
 *     program's file are removed from the effective set before, so that the process is non-dumpable
 *     from its first instruction on: see init/image.h.
 */
#include "ns/spawn.h"

#include <linux/capability.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/clone_vm.h"
#include "base/fd.h"
#include "base/sys.h"
#include "base/userns.h"
#include "ns/channel.h"
#include "ns/clone.h"

#define STACK_SIZE (64 * 1024)
#define WAIT_MS 1000

/*
 * The data that the new process reads. The caller must not change this data before the new process
 * has executed caisson-init, because the two processes may share memory until then.
 */
struct spawn {
	struct ns_spawn_args args;
	char stack[STACK_SIZE] __attribute__((aligned(16)));
};

struct caps {
	struct __user_cap_header_struct head;
	struct __user_cap_data_struct data[2];
};

static int get_caps(struct caps *c)
{
	c->head = (struct __user_cap_header_struct){.version = _LINUX_CAPABILITY_VERSION_3};
	return (int)syscall(SYS_capget, &c->head, c->data);
}

static int drop_file_access(void)
{
	struct caps c;

	if (get_caps(&c) < 0)
		return -1;
	c.data[0].effective &= ~(1u << CAP_DAC_OVERRIDE | 1u << CAP_DAC_READ_SEARCH);
	return (int)syscall(SYS_capset, &c.head, c.data);
}

static int arrange_descriptors(const struct ns_spawn_args *a)
{
	if (dup2(a->orders, STDIN_FILENO) < 0 ||
		(a->stdout_fd >= 0 && dup2(a->stdout_fd, STDOUT_FILENO) < 0) ||
		(a->stderr_fd >= 0 && dup2(a->stderr_fd, STDERR_FILENO) < 0) ||
		close_range(3 + (unsigned)a->preserve_fds, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return -1;
	for (size_t i = 0; i < a->npass; i++)
		if (a->pass[i] >= 0 && fcntl(a->pass[i], F_SETFD, 0) < 0)
			return -1;
	return 0;
}

/*
 * Runs in the new process, and executes caisson-init. The function does not return: if it fails,
 * the process exits.
 */
static int become_init(void *data)
{
	static char *const argv[] = {(char *)"caisson-init", NULL}, *const envp[] = {NULL};
	const struct spawn *s = data;
	const struct ns_spawn_args *a = &s->args;
	const char *what = "execute caisson-init";
	int code;

	if (arrange_descriptors(a) < 0)
		what = "arrange the descriptors of caisson-init";
	else if (a->clone->clone.flags & CLONE_NEWUSER ? userns_raise_ambient() < 0
						       : drop_file_access() < 0)
		what = "set the capabilities of caisson-init";
	else
		execveat(a->image, "", argv, envp, AT_EMPTY_PATH);
	code = errno;
	char text[256];
	snprintf(text, sizeof(text), "%s: %s", what, err_text(code));
	_exit(channel_send(a->pass[0], CHANNEL_FAILED, -code, text, -EBADF) < 0 ? 2 : 1);
}

#ifdef __x86_64__
static pid_t clone_sharing(struct clone_args *ca, struct spawn *s)
{
	ca->flags |= CLONE_VM;
	ca->stack = (uintptr_t)s->stack;
	ca->stack_size = sizeof(s->stack);
	return clone_vm(ca, become_init, s);
}
#endif

static bool shares_memory(const struct ns_spawn_args *a)
{
#ifdef __x86_64__
	return a->cgroup < 0 || a->cgroup_is_new;
#else
	return false;
#endif
}

static pid_t clone_init(struct clone_args *ca, struct spawn *s)
{
#ifdef __x86_64__
	if (shares_memory(&s->args))
		return clone_sharing(ca, s);
#endif
	pid_t pid = sys_clone3(ca);

	if (pid == 0)
		become_init(s);
	return pid;
}

/*
 * Waits until the other end of the pipe is closed, at most WAIT_MS. Returns true if the other end
 * is closed, because the new process has executed caisson-init or has ended.
 */
static bool wait_for_execve(int pipe_end)
{
	struct pollfd p = {.fd = pipe_end};

	return poll(&p, 1, WAIT_MS) > 0;
}

/*
 * Makes the new process, and waits until it no longer shares memory with the caller. Returns 0, or
 * 1 if the new process still shares memory after WAIT_MS. ns_spawn() has made the caller
 * non-dumpable before.
 */
static int spawn(const struct ns_spawn_args *a, struct ns_child *ret)
{
	int pidfd = -EBADF, ends[2] = {-EBADF, -EBADF};
	struct clone_args ca = {
		.flags = a->clone->clone.flags | CLONE_PIDFD | CLONE_CLEAR_SIGHAND |
			 (a->cgroup >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)(a->cgroup >= 0 ? a->cgroup : 0),
	};
	const bool shared = shares_memory(a);
	struct spawn *s = malloc(shared ? sizeof(*s) : offsetof(struct spawn, stack));
	if (!s)
		return err_set(ENOMEM, "no memory for the stack of caisson-init");
	s->args = *a;
	if (shared && pipe2(ends, O_CLOEXEC) < 0) {
		free(s);
		return err_sys("make a pipe");
	}
	pid_t pid = clone_init(&ca, s);
	int code = errno;
	fd_close(&ends[1]);
	if (pid >= 0 && a->meanwhile)
		a->meanwhile(a->data);
	bool done = pid < 0 || !shared || wait_for_execve(ends[0]);
	if (done)
		free(s);
	fd_close(&ends[0]);
	errno = code;
	if (pid < 0)
		return ns_clone_error(a->clone->clone.flags);
	*ret = (struct ns_child){.pid = pid, .pidfd = pidfd};
	return !done;
}

int ns_spawn(const struct ns_spawn_args *a, struct ns_child *ret)
{
	const int dumpable = prctl(PR_GET_DUMPABLE);

	if (dumpable < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_sys("make this process non-dumpable");
	int r = spawn(a, ret);
	/*
	 * The caller becomes dumpable again, because the files in /proc of a non-dumpable process
	 * belong to root, so an ordinary user's process could not open its own. If the new process
	 * still shares the caller's memory (r is 1), the caller stays non-dumpable, so that no
	 * process of the container can look into that memory.
	 */
	if (r <= 0 && dumpable == 1)
		prctl(PR_SET_DUMPABLE, 1);
	return r < 0 ? r : 0;
}
