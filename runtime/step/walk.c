/* SPDX-License-Identifier: Apache-2.0 */
#include <sched.h>

#include "base/fd.h"
#include "netsetup/net.h"
#include "step/step.h"

typedef int (*step_fn)(struct step_ctx *c, const struct step *s);

static int step_barrier(struct step_ctx *c, const struct step *s)
{
	if (s->place == c->place)
		return c->peer.report(c->peer.data, s->text);
	return plan_awaits(c->plan, c->place, s) ? c->peer.await(c->peer.data, s->text) : 0;
}

static int step_wait_start(struct step_ctx *c, const struct step *s)
{
	return c->peer.wait_start(c->peer.data);
}

static int step_cgroup_ns(struct step_ctx *c, const struct step *s)
{
	if (unshare(CLONE_NEWCGROUP) < 0)
		return err_sys("make a cgroup namespace");
	return 0;
}

static int step_new_network(struct step_ctx *c, const struct step *s)
{
	_cleanup_fd_ int fd = c->peer.take_fd(c->peer.data, "network");

	if (fd < 0)
		return fd;
	return setns(fd, CLONE_NEWNET) < 0 ? err_sys("enter the new network namespace") : 0;
}

static int step_loopback(struct step_ctx *c, const struct step *s)
{
	return net_loopback_up();
}

/*
 * The functions that do the steps in this process, by kind of step. A kind without an entry is done
 * by another party: the runtime, the guest's agent or the microVM's monitor.
 */
static const step_fn step_functions[STEP_COUNT] = {
	[STEP_BARRIER] = step_barrier,
	[STEP_OPEN_ROOT] = step_open,
	[STEP_OPEN_SOURCE] = step_open,
	[STEP_JOIN] = step_join,
	[STEP_ENTER] = step_enter,
	[STEP_TIME_NS] = step_time_ns,
	[STEP_FORK] = step_fork,
	[STEP_MAPPED_ROOT] = step_mapped_root,
	[STEP_CGROUP_NS] = step_cgroup_ns,
	[STEP_LOOPBACK] = step_loopback,
	[STEP_NEW_NETWORK] = step_new_network,
	[STEP_HOSTNAME] = step_hostname,
	[STEP_DOMAINNAME] = step_domainname,
	[STEP_ATTACH_ROOT] = step_attach_root,
	[STEP_MOUNT] = step_mount,
	[STEP_DEVICE] = step_device,
	[STEP_SYMLINK] = step_symlink,
	[STEP_HOOKS] = step_hooks,
	[STEP_PIVOT] = step_pivot,
	[STEP_CONSOLE] = step_console,
	[STEP_SYSCTL] = step_sysctl,
	[STEP_READONLY_PATH] = step_readonly_path,
	[STEP_MASK_PATH] = step_mask_path,
	[STEP_READONLY_ROOT] = step_readonly_root,
	[STEP_ROOT_PROPAGATION] = step_root_propagation,
	[STEP_MEMORY_POLICY] = step_memory_policy,
	[STEP_PERSONALITY] = step_personality,
	[STEP_RLIMITS] = step_rlimits,
	[STEP_OOM_SCORE] = step_oom_score,
	[STEP_SCHEDULER] = step_scheduler,
	[STEP_IO_PRIORITY] = step_io_priority,
	[STEP_AFFINITY] = step_affinity,
	[STEP_KEYRING] = step_keyring,
	[STEP_EXEC_LABEL] = step_exec_label,
	[STEP_FIND_PROGRAM] = step_find_program,
	[STEP_USER] = step_user,
	[STEP_CAPABILITIES] = step_capabilities,
	[STEP_NO_NEW_PRIVS] = step_no_new_privs,
	[STEP_CLOSE] = step_close,
	[STEP_SECCOMP] = step_seccomp,
	[STEP_WAIT_START] = step_wait_start,
	[STEP_EXEC] = step_exec,
};

int step_do(struct step_ctx *c, const struct step *s)
{
	/*
	 * A step that another party does is skipped. A barrier is not skipped, even if it is
	 * another party's, because this party may have to wait at it.
	 */
	if (s->place != c->place && s->kind != STEP_BARRIER)
		return 0;
	if (!step_functions[s->kind])
		return err_set(
			ENOSYS, "the step %s cannot be done by init", plan_step_name(s->kind));
	int r = step_functions[s->kind](c, s);
	return r < 0 && s->field ? err_ctx(r, "%s", s->field) : r;
}

int step_walk(struct step_ctx *c, size_t from)
{
	int r = 0;

	for (size_t i = from; i < c->plan->n && r >= 0; i++)
		r = step_do(c, &c->plan->steps[i]);
	return r < 0 ? r : 0;
}
