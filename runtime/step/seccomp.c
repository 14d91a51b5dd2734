/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads the system call filter that the runtime has compiled.
 *
 * Theory of operation. The filter should be loaded at the step SECCOMP, before any process of the
 * container can look at INIT, the container's first process. This is possible if the filter allows
 * the few calls that INIT still has to make: those for waiting for `start`, reporting, execve(2),
 * and forking for an exec and for hooks. INIT finds that out by interpreting the filter itself for
 * these calls (seccomp_sim.h). If one of the calls is not allowed, the filter is kept and loaded
 * right before execve(2): by INIT at the step EXEC, and by the process of each startContainer hook.
 *
 * A listener (SCMP_ACT_NOTIFY) must be sent to the agent while the container is still being made.
 * Once the filter is loaded, it may stop INIT in any call, even in sendmsg(2). So a thread that was
 * started before, and that is not under the filter, sends the listener, waits until the runtime
 * says that the agent has it, and ends. Meanwhile INIT makes no call at all.
 */
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clone_vm.h"
#include "base/fd.h"
#include "step/caps.h"
#include "step/seccomp_sim.h"
#include "step/step.h"

static const struct {
	uint64_t flag;
	const char *name;
} flag_names[] = {
	{SECCOMP_FILTER_FLAG_TSYNC, "SECCOMP_FILTER_FLAG_TSYNC"},
	{SECCOMP_FILTER_FLAG_LOG, "SECCOMP_FILTER_FLAG_LOG"},
	{SECCOMP_FILTER_FLAG_SPEC_ALLOW, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"},
	{SECCOMP_FILTER_FLAG_NEW_LISTENER, "SCMP_ACT_NOTIFY (a listener)"},
	{SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"},
};

static int load_filter(uint64_t flags, const struct sock_fprog *program)
{
	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, program);
}

/*
 * Returns the name of the first of the seccomp(2) flags in `flags` that the kernel does not know,
 * or NULL if the kernel knows all of them. The test is a call of seccomp(2) with a bad address: it
 * fails with EFAULT if the kernel knows the flag, and with EINVAL if not.
 */
static const char *unknown_flag(uint64_t flags)
{
	uint64_t base = flags & SECCOMP_FILTER_FLAG_NEW_LISTENER;

	for (size_t i = 0; i < ARRAY_SIZE(flag_names); i++)
		if (flags & flag_names[i].flag &&
			load_filter(base | flag_names[i].flag, NULL) < 0 && errno == EINVAL)
			return flag_names[i].name;
	return NULL;
}

static int load_filter_error(uint64_t flags, size_t n)
{
	int code = errno;
	const char *flag = code == EINVAL ? unknown_flag(flags) : NULL;

	errno = code;
	if (flag)
		return err_sys("flags: this kernel does not support %s", flag);
	if (code == EACCES)
		return err_sys("load the filter: needs CAP_SYS_ADMIN in the container's user "
			       "namespace, or process.noNewPrivileges");
	if (code == EBUSY)
		return err_sys("load the filter: SCMP_ACT_NOTIFY: this process is under a filter "
			       "with a listener already, and the kernel allows only one");
	if (code == EINVAL)
		return err_sys("load the filter of %zu instructions: the kernel was built "
			       "without CONFIG_SECCOMP_FILTER, or the program is broken",
			n);
	return err_sys("load the filter of %zu instructions", n);
}

/*
 * Drops the capability CAP_SYS_ADMIN, which the step CAPABILITIES kept for loading the filter. If
 * the filter denies capset(2), the program still does not get the capability: execve(2) computes
 * the permitted and the effective set anew from the bounding, the inheritable and the ambient set,
 * and the kept capability is in none of these (capabilities(7)).
 */
static void drop_kept_caps(const struct cap_sets *final)
{
	if (cap_sets_write(final) < 0)
		err_clear();
}

/*
 * The next definitions find out whether the filter allows the calls that INIT, the container's
 * first process, still has to make.
 */

struct call {
	const char *name;
	int nr;
	uint64_t args[2];
	/*
	 * The filter may deny this call or ask the agent about it, because INIT (the container's
	 * first process) then has another way or has nothing left to do.
	 */
	bool may_fail;
};

#define CALL(call, ...) \
	{ \
		.name = #call, .nr = SYS_##call, .args = { __VA_ARGS__ } \
	}
#define CALL_MAY_FAIL(call) \
	{ \
		.name = #call, .nr = SYS_##call, .may_fail = true \
	}

static const struct call for_exec[] = {
	CALL(write, 3), CALL_MAY_FAIL(execve), CALL_MAY_FAIL(exit_group), CALL_MAY_FAIL(capset)};
static const struct call for_wait[] = {CALL(read, 3)};
static const struct call for_fork[] = {CALL(clone, CLONE_PARENT | SIGCHLD), CALL(setsid, 0)};
static const struct call for_terminal[] = {CALL(ioctl, 0, TIOCSCTTY)};
/* The filter may deny clone3(2), because hook.c then makes the hook's process by clone(2). */
static const struct call for_hooks[] = {CALL_MAY_FAIL(clone3), CALL(clone, SIGCHLD),
	CALL(pidfd_open, 0), CALL(waitid, 0), CALL(pipe2, 0), CALL(fcntl, 3), CALL(close, 3),
	CALL(ppoll, 0), CALL(dup3, 3), CALL(setsid, 0), CALL(prctl, PR_SET_PDEATHSIG),
	CALL(getppid, 0), CALL(getpid, 0), CALL(close_range, 3), CALL(rt_sigaction, SIGCHLD),
	CALL(rt_sigprocmask, SIG_SETMASK), CALL(kill, 0), CALL(pidfd_send_signal, 0), CALL(mmap, 0),
	CALL(munmap, 0), CALL(brk, 0), CALL(read, 3), CALL(clock_gettime, 1)
#ifdef SYS_poll
							      ,
	CALL(poll, 0), CALL(dup2, 3)
#endif
};

static bool is_let_through(const struct strbuf *filter, const struct call *call)
{
	const struct seccomp_data d = {.nr = call->nr,
		.arch = seccomp_native_arch(),
		.args = {call->args[0], call->args[1]}};
	uint32_t answer = seccomp_simulate((const struct sock_filter *)filter->s,
		filter->len / sizeof(struct sock_filter), &d);

	switch (answer & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
	case SECCOMP_RET_LOG:
		return true;
	case SECCOMP_RET_ERRNO:
	case SECCOMP_RET_USER_NOTIF:
		return call->may_fail;
	default:
		return false;
	}
}

/*
 * Returns the name of the first system call in `calls` that the filter does not allow, or NULL if
 * the filter allows all of them.
 */
static const char *find_obstacle(const struct strbuf *filter, const struct call *calls, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!is_let_through(filter, &calls[i]))
			return calls[i].name;
	return NULL;
}

#define FIND_OBSTACLE(filter, calls) find_obstacle(filter, calls, ARRAY_SIZE(calls))

/*
 * Returns the name of a call that INIT (the container's first process) makes in the steps after `s`
 * and that the filter does not allow, or NULL if the filter allows all of these calls.
 */
static const char *find_obstacle_behind(
	const struct step_ctx *c, const struct step *s, const struct strbuf *filter)
{
	if (!seccomp_native_arch())
		return "any call on this machine";
	const char *found = FIND_OBSTACLE(filter, for_exec);
	for (const struct step *later = s + 1;
		c->plan && !found && later < c->plan->steps + c->plan->n; later++) {
		if (later->place != PLACE_INIT)
			continue;
		if (later->kind == STEP_WAIT_START)
			found = FIND_OBSTACLE(filter, for_wait);
		else if (later->kind == STEP_HOOKS)
			found = FIND_OBSTACLE(filter, for_hooks);
		else if (later->kind == STEP_FORK)
			found = FIND_OBSTACLE(filter, for_fork);
		if (!found && later->kind == STEP_FORK && c->console >= 0)
			found = FIND_OBSTACLE(filter, for_terminal);
	}
	return found;
}

/*
 * The next functions hand over the seccomp listener to the agent, from a thread that is not under
 * the filter.
 */

#define SENDER_STACK (64 * 1024)

enum sender_state { SENDER_WAITS, SENDER_HAS_LISTENER, SENDER_IS_NOT_NEEDED, SENDER_DONE };

struct step_sender {
	struct step_ctx *c;
	atomic_int state;
	int listener;
	int result;
};

/*
 * The function of the thread that sends the listener: it waits until the runtime says that the
 * agent has the listener. The thread shares everything with INIT, the container's first process,
 * which waits meanwhile. The function does not return, because the thread was not made by the C
 * library.
 */
static __attribute__((noreturn)) int send_listener(void *data)
{
	struct step_sender *s = data;
	const struct timespec moment = {.tv_nsec = 20000};
	int state;

	while ((state = atomic_load(&s->state)) == SENDER_WAITS)
		syscall(SYS_nanosleep, &moment, NULL);
	if (state == SENDER_HAS_LISTENER) {
		const struct step_peer *peer = &s->c->peer;
		s->result = peer->send_fd(peer->data, "seccomp", s->listener);
		if (s->result >= 0 && peer->await)
			s->result = peer->await(peer->data, "seccomp");
		/*
		 * The thread closes the descriptor of the listener, which it shares with the
		 * container's first process, because the agent has the listener now, and another
		 * process could get it from that process.
		 */
		close(s->listener);
	}
	atomic_store(&s->state, SENDER_DONE);
	for (;;)
		syscall(SYS_exit, 0);
}

int seccomp_start_sender(struct step_ctx *c)
{
	/*
	 * The memory of the thread's stack is never freed here, because the execve(2) of the
	 * program frees all memory.
	 */
	char *stack = mmap(
		NULL, SENDER_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack == MAP_FAILED)
		return err_sys("make a stack for the thread that hands over the listener");
	/*
	 * The struct step_sender lies at the low end of the memory for the thread's stack. The
	 * stack, which grows down from the high end, never reaches the struct.
	 */
	struct step_sender *s = (struct step_sender *)(void *)stack;
	*s = (struct step_sender){.c = c, .listener = -EBADF};
	struct clone_args args = {
		.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			 CLONE_SYSVSEM,
		.stack = (uintptr_t)stack,
		.stack_size = SENDER_STACK,
	};
	if (clone_vm(&args, send_listener, s) < 0)
		return err_sys("start the thread that hands over the listener");
	c->sender = s;
	return 0;
}

/*
 * Waits until the thread has sent the listener. The loop makes no system call, because the filter
 * could make any system call wait for the agent.
 */
static void wait_for_sender(struct step_sender *s)
{
	while (atomic_load(&s->state) != SENDER_DONE) {
#ifdef __x86_64__
		__builtin_ia32_pause();
#endif
	}
}

static int load_with_listener(struct step_ctx *c, uint64_t flags, const struct sock_fprog *program)
{
	int r = c->sender ? 0 : seccomp_start_sender(c);

	if (r < 0)
		return r;
	struct step_sender *s = c->sender;
	c->sender = NULL;
	flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
	s->listener = load_filter(flags, program);
	int code = errno;
	atomic_store(&s->state, s->listener >= 0 ? SENDER_HAS_LISTENER : SENDER_IS_NOT_NEEDED);
	wait_for_sender(s);
	errno = code;
	if (s->listener < 0)
		return load_filter_error(flags, program->len);
	/*
	 * The seccomp listener needs no FD_CLOEXEC here, because the kernel has made it
	 * close-on-exec.
	 */
	return s->result < 0 ? err_ctx(s->result, "hand over the listener") : 0;
}

/* The next functions load the system call filter. */

static int load_and_drop(struct step_ctx *c, const struct step *s, const struct strbuf *filter)
{
	const size_t n = filter->len / sizeof(struct sock_filter);
	struct cap_sets now, final = {0};
	int r = 0;

	if (s->seccomp.drop_caps) {
		r = cap_sets_read(&now);
		if (r < 0)
			return r;
		final = cap_sets_grantable(s->seccomp.final_caps, &now);
	}
	const struct sock_fprog program = {
		.len = (unsigned short)n,
		.filter = (struct sock_filter *)filter->s,
	};
	/*
	 * The flag TSYNC is dropped, because only the calling thread is to be under the filter, and
	 * the kernel does not allow TSYNC together with a listener.
	 */
	uint64_t flags = s->seccomp.seccomp->flags & ~(uint64_t)SECCOMP_FILTER_FLAG_TSYNC;
	if (s->seccomp.seccomp->notify)
		r = load_with_listener(c, flags, &program);
	else if (load_filter(flags, &program) < 0)
		r = load_filter_error(flags, n);
	if (r >= 0 && s->seccomp.drop_caps)
		drop_kept_caps(&final);
	return r;
}

static int read_filter(struct step_ctx *c, const struct step *s, struct strbuf *ret)
{
	int r = 0;

	/*
	 * The memory of the filter is never freed, because freeing could make system calls for
	 * which the loaded filter kills the process.
	 */
	if (c->filter)
		*ret = (struct strbuf){.s = (char *)c->filter, .len = c->filter_len};
	else if (s->slot < 0 || c->slots[s->slot] < 0)
		return err_set(EINVAL, "the compiled filter was not handed over");
	else
		r = fd_read_all(c->slots[s->slot], ret, BPF_MAXINSNS * sizeof(struct sock_filter),
			"the compiled filter");
	if (r >= 0 && (ret->len == 0 || ret->len % sizeof(struct sock_filter) != 0))
		r = err_set(EINVAL,
			"the compiled filter is %zu bytes long: expected a multiple of %zu",
			ret->len, sizeof(struct sock_filter));
	return r;
}

static bool has_hooks(const struct step_ctx *c, const struct step *s)
{
	for (const struct step *later = s + 1; later < c->plan->steps + c->plan->n; later++)
		if (later->kind == STEP_HOOKS && later->place == PLACE_INIT)
			return true;
	return false;
}

int step_seccomp(struct step_ctx *c, const struct step *s)
{
	struct strbuf filter = {0};

	int r = read_filter(c, s, &filter);
	if (r < 0)
		return r;
	const char *obstacle = find_obstacle_behind(c, s, &filter);
	if (!obstacle)
		return load_and_drop(c, s, &filter);
	if (s->seccomp.seccomp->notify && (c->detached || has_hooks(c, s)))
		return err_set(EINVAL,
			"with SCMP_ACT_NOTIFY the filter has to allow what the container's first "
			"process does until the program runs, but it does not allow %s",
			obstacle);
	c->late_filter = filter;
	c->late_step = s;
	return 0;
}

int seccomp_load_late(struct step_ctx *c)
{
	const struct step *s = c->late_step;

	if (!s)
		return 0;
	int r = load_and_drop(c, s, &c->late_filter);
	return r < 0 ? err_ctx(r, "%s", s->field ? s->field : "linux.seccomp") : 0;
}
