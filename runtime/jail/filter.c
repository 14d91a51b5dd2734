/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/str.h"
#include "jail/jail.h"

static int allow_memory(scmp_filter_ctx ctx)
{
	int r = seccomp_rule_add(
		ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));

	return r < 0 ? r
		     : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
			       SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

static int allow_threads(scmp_filter_ctx ctx)
{
	/*
	 * clone3(2) fails with ENOSYS instead of killing the process, because a filter cannot see
	 * the flags of clone3(2), and the C library calls clone(2) after this error.
	 */
	int r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);

	return r < 0 ? r
		     : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
			       SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
}

/*
 * Allows the commands of fcntl(2) that a jailed process needs. The kernel sends the signal of
 * F_SETSIG to the process of F_SETOWN, which may be any process of the same user. Each command is
 * listed, because the kernel ignores the upper half of the argument.
 */
static int allow_fcntl(scmp_filter_ctx ctx)
{
	static const unsigned commands[] = {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL,
		F_SETFL, F_OFD_GETLK, F_OFD_SETLK, F_GET_SEALS, F_ADD_SEALS};
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(commands); i++)
		r = seccomp_rule_add(
			ctx, SCMP_ACT_ALLOW, SCMP_SYS(fcntl), 1, SCMP_A1(SCMP_CMP_EQ, commands[i]));
	return r;
}

static int allow_call(scmp_filter_ctx ctx, int call)
{
	if (call == SCMP_SYS(fcntl))
		return allow_fcntl(ctx);
	/* abort(3) sends a signal to this process, and no other process may get one. */
	if (call == SCMP_SYS(tgkill) || call == SCMP_SYS(tkill))
		return seccomp_rule_add(
			ctx, SCMP_ACT_ALLOW, call, 1, SCMP_A0(SCMP_CMP_EQ, (uint64_t)getpid()));
	return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 0);
}

int jail_filter_calls(const int *calls, size_t n, unsigned flags)
{
	if (!JAIL_HAS_FILTERS)
		return 0;
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = ctx ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = allow_call(ctx, calls[i]);
	if (r == 0 && (flags & JAIL_MEMORY))
		r = allow_memory(ctx);
	if (r == 0 && (flags & JAIL_THREADS_OF_C))
		r = allow_threads(ctx);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r < 0 ? err_set(-r, "load the system call filter: %s", strerror(-r)) : 0;
}
