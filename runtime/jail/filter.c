/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/mman.h>

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

int jail_filter_calls(const int *calls, size_t n, unsigned flags)
{
	if (!JAIL_HAS_FILTERS)
		return 0;
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r = ctx ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
	if (r == 0 && (flags & JAIL_MEMORY))
		r = allow_memory(ctx);
	if (r == 0 && (flags & JAIL_THREADS_OF_C))
		r = allow_threads(ctx);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r < 0 ? err_set(-r, "load the system call filter: %s", strerror(-r)) : 0;
}
