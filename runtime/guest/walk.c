/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the steps of the plan whose party is GUEST. For a container without a machine, the runtime
 * does these steps on the host (launch/host.c). In a microVM the agent does them, because the
 * processes are in the guest.
 */
#include <sched.h>

#include "base/clock.h"
#include "guest/guest.h"
#include "ns/channel.h"
#include "step/host_nodes.h"
#include "step/step.h"

static int do_cgroup_create(struct process *p, const struct step *s)
{
	struct guest *g = p->guest;
	const struct cg_options o = {
		.manager = CG_CGROUPFS, .id = p->orders->id, .cgroups_path = g->config->cgroup};

	int r = cg_resolve(&g->arena, &o, &g->cgroup);
	if (r >= 0)
		r = cg_create(&g->cgroup, &p->orders->resources);
	if (r < 0)
		return r;
	uint32_t uid = p->orders->uid;
	r = uid && p->orders->delegate ? cg_delegate(&g->cgroup, uid) : 0;
	if (r >= 0)
		r = guest_watch_oom(g);
	if (r < 0)
		return r;
	p->cgroup_dir = cg_open(&g->cgroup);
	return p->cgroup_dir;
}

static int do_cgroup_limit(struct process *p, const struct step *s)
{
	return guest_limit(p->guest, &p->orders->resources, true);
}

static int do_id_map(struct process *p, const struct step *s)
{
	return ns_id_map(p->child.pid, &s->map.uid, &s->map.gid);
}

static int do_oom_score(struct process *p, const struct step *s)
{
	/*
	 * A step for the process that comes before the process exists is refused, because the pid
	 * is still 0, and a step for pid 0 would change the agent itself.
	 */
	if (p->child.pid <= 0)
		return err_set(EPROTO, "the OOM score adjustment comes before its process");
	return process_set_oom_score(s->process, p->proc, p->child.pid);
}

static int do_cgroup_attach(struct process *p, const struct step *s)
{
	return cg_attach(&p->arena, &p->exec_cgroup, NULL, NULL, p->child.pid);
}

static int do_rlimits(struct process *p, const struct step *s)
{
	return process_set_rlimits(s->process, p->child.pid);
}

/*
 * Sets the CPU affinity of the agent itself before the step CLONE, because INIT inherits the
 * affinity. process_walk() restores the agent's own affinity after the step CLONE.
 */
static int do_affinity(struct process *p, const struct step *s)
{
	cpu_set_t set;

	int r = str_to_bitlist(s->text, (unsigned long *)&set, CPU_SETSIZE);
	if (r >= 0 && sched_setaffinity(0, sizeof(set), &set) < 0)
		r = err_sys("set the CPU affinity to %s", s->text);
	return r;
}

/*
 * Does a step of the plan that is a barrier. Returns 1 if INIT has not reached the barrier yet, so
 * that the agent has to stop at this step.
 */
static int do_barrier(struct process *p, const struct step *s)
{
	if (s->place != PLACE_GUEST) {
		p->awaited = plan_awaits(&p->plan, PLACE_GUEST, s) ? s->text : NULL;
		return p->awaited != NULL;
	}
	int r = channel_send(p->channel, CHANNEL_REACHED, 0, s->text, -EBADF);
	/*
	 * EPIPE and ECONNRESET say that INIT has ended. INIT's channel may still hold a message in
	 * which INIT has reported a failure.
	 */
	if (r == -EPIPE || r == -ECONNRESET) {
		p->awaited = s->text;
		return 1;
	}
	return r;
}

static int do_device_nodes(struct process *p, const struct step *s)
{
	return device_nodes_make(s, -EBADF, p->slots);
}

typedef int (*guest_fn)(struct process *p, const struct step *s);

static const guest_fn step_functions[STEP_COUNT] = {
	[STEP_CGROUP_CREATE] = do_cgroup_create,
	[STEP_CGROUP_LIMIT] = do_cgroup_limit,
	[STEP_OPEN_ROOT] = guest_open,
	[STEP_OPEN_SOURCE] = guest_open,
	[STEP_DEVICE_NODES] = do_device_nodes,
	[STEP_CONNECT] = guest_open,
	[STEP_CLONE] = guest_clone,
	[STEP_ID_MAP] = do_id_map,
	[STEP_CGROUP_ATTACH] = do_cgroup_attach,
	[STEP_OOM_SCORE] = do_oom_score,
	[STEP_RLIMITS] = do_rlimits,
	[STEP_AFFINITY] = do_affinity,
	[STEP_BARRIER] = do_barrier,
};

static int walk_steps(struct process *p)
{
	for (; p->at < p->plan.n; p->at++) {
		const struct step *s = &p->plan.steps[p->at];
		if (s->place != PLACE_GUEST && s->kind != STEP_BARRIER)
			continue;
		if (!step_functions[s->kind])
			return err_set(ENOSYS, "the step %s cannot be done by the guest",
				plan_step_name(s->kind));
		uint64_t begin = clock_ns();
		int r = step_functions[s->kind](p, s);
		if (s->place == PLACE_GUEST)
			steps_note(p, p->at, false, begin, clock_ns());
		if (r < 0)
			return s->field ? err_ctx(r, "%s", s->field) : r;
		if (s->kind == STEP_BARRIER && r > 0)
			return 0;
	}
	return 0;
}

int process_walk(struct process *p)
{
	cpu_set_t own;
	bool saved = sched_getaffinity(0, sizeof(own), &own) == 0;

	int r = walk_steps(p);
	if (saved)
		(void)!sched_setaffinity(0, sizeof(own), &own);
	return r;
}
