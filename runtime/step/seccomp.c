/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loads the filter that HOST compiled. Every later system call is subject to the filter, so that
 * there are as few as possible: sendmsg(2), which hands over a listener; capset(2), if capabilities
 * are to be dropped; execve(2).
 */
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "step/caps.h"
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
 * Finds the first flag that the kernel does not know. The call passes a bad address: for a flag
 * that the kernel knows it fails with EFAULT, and for an unknown flag with EINVAL.
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
 * Drops the capability that the CAPABILITIES step kept for loading the filter. It is no failure if
 * the filter denies capset(2), because execve(2) comes next. It computes the permitted and the
 * effective set anew from the bounding, the inheritable and the ambient set, and nothing was kept
 * in any of these (capabilities(7)).
 */
static void drop_kept_caps(const struct cap_sets *final)
{
	if (cap_sets_write(final) < 0)
		err_clear();
}

int step_seccomp(struct step_ctx *c, const struct step *s)
{
	struct strbuf text = {
		0}; /* not released: freeing could make calls that the filter kills for */
	struct cap_sets now, final = {0};

	if (s->slot < 0 || c->slots[s->slot] < 0)
		return err_set(EINVAL, "the compiled filter was not handed over");
	int r = fd_read_all(c->slots[s->slot], &text, BPF_MAXINSNS * sizeof(struct sock_filter),
		"the compiled filter");
	if (r < 0)
		return r;
	size_t n = text.len / sizeof(struct sock_filter);
	if (n == 0 || text.len % sizeof(struct sock_filter) != 0)
		return err_set(EINVAL,
			"the compiled filter is %zu bytes long: expected a "
			"multiple of %zu",
			text.len, sizeof(struct sock_filter));
	if (s->seccomp.drop_caps) {
		r = cap_sets_read(&now);
		if (r < 0)
			return r;
		final = cap_sets_grantable(s->seccomp.final_caps, &now);
	}
	const struct sock_fprog program = {
		.len = (unsigned short)n,
		.filter = (struct sock_filter *)text.s,
	};
	/*
	 * There is only one thread, so that TSYNC has nothing to synchronise, and it excludes a
	 * listener.
	 */
	uint64_t flags = s->seccomp.seccomp->flags & ~(uint64_t)SECCOMP_FILTER_FLAG_TSYNC;
	if (s->seccomp.seccomp->notify)
		flags |= SECCOMP_FILTER_FLAG_NEW_LISTENER;
	r = load_filter(flags, &program);
	if (r < 0)
		return load_filter_error(flags, n);
	if (s->seccomp.seccomp->notify) {
		/* The kernel has made the listener close-on-exec. */
		r = c->peer.send_fd(c->peer.data, "seccomp", r);
		if (r < 0)
			return err_ctx(r, "hand over the listener (the filter has to allow "
					  "sendmsg)");
	}
	if (s->seccomp.drop_caps)
		drop_kept_caps(&final);
	return 0;
}
