/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the steps of GUEST: those that the runtime does on the host for a container without a
 * machine (launch/host.c). Here the agent does them, because the processes are in the guest.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/path.h"
#include "guest/guest.h"
#include "ns/channel.h"
#include "step/step.h"

static int do_cgroup_create(struct process *p, const struct step *s)
{
	struct guest *g = p->guest;
	const struct cg_options o = {
		.manager = CG_CGROUPFS, .id = p->id, .cgroups_path = g->config->cgroup};

	int r = cg_resolve(&g->arena, &o, &g->cgroup);
	if (r >= 0)
		r = cg_create(&g->cgroup, &g->spec->resources);
	if (r < 0)
		return r;
	uint32_t uid = plan_uid(p->spec, p->plan.process);
	r = uid && plan_delegates_cgroup(p->spec) ? cg_delegate(&g->cgroup, uid) : 0;
	if (r >= 0)
		r = guest_watch_oom(g);
	if (r < 0)
		return r;
	p->cgroup_dir = cg_open(&g->cgroup);
	return p->cgroup_dir;
}

static int do_cgroup_limit(struct process *p, const struct step *s)
{
	return guest_limit(p->guest, &p->spec->resources, true);
}

/*
 * Writes the container's state as JSON for hooks, with the same members as on the host
 * (launch/container.c).
 */
static int state_json(void *data, const char *status, struct strbuf *ret)
{
	const struct process *p = data;
	_cleanup_json_out_ struct json_out o = {0};
	const struct json *annotations = json_get(p->spec->json, "annotations");
	const char *text;
	size_t len;

	int r = json_out_init(&o, false);
	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_str(&o, "ociVersion", SPEC_VERSION);
	json_out_str(&o, "id", p->id);
	json_out_str(&o, "status", status);
	json_out_i64(&o, "pid", p->child.pid);
	json_out_str(&o, "bundle", p->bundle);
	if (annotations && annotations->type == JSON_OBJECT && annotations->count)
		json_out_node(&o, "annotations", annotations);
	json_out_end_object(&o);
	r = json_out_text(&o, &text, &len);
	return r < 0 ? r : strbuf_add(ret, text, len);
}

/*
 * Closes every descriptor except for those that INIT needs. INIT may wait for "start" for a long
 * time. Until then it must not hold the agent's connection open, nor the pipes of other processes,
 * because their readers would never see the end.
 */
static int keep_only_fds(
	const int *slots, int n, int channel, int proc, int container, struct arena *a)
{
	int *kept = arena_array(a, (size_t)n + 4, sizeof(*kept));
	size_t count = 0;

	if (!kept)
		return -ENOMEM;
	kept[count++] = channel;
	kept[count++] = proc;
	if (container >= 0)
		kept[count++] = container;
	for (int i = 0; i < n; i++)
		if (slots[i] >= 0)
			kept[count++] = slots[i];
	return fd_close_all_but(kept, count);
}

_Noreturn static void become_init(
	struct process *p, int channel, const struct process *container, size_t from)
{
	struct ns_init_args a = {
		.plan = &p->plan,
		.slots = p->slots,
		.channel = channel,
		.start_fifo = -EBADF,
		.result_fifo = -EBADF,
		.container = container ? container->child.pidfd : -EBADF,
		.proc = p->proc,
		.state_json = state_json,
		.state_data = p,
		.arena = &p->arena,
		.from = from,
	};
	char pid[32] = "";
	int r = 0;

	for (int i = 0; i < 3 && r >= 0; i++)
		if (dup2(p->stdio[i], i) < 0)
			r = err_sys("make a standard stream of descriptor %d", p->stdio[i]);
	if (r >= 0)
		r = keep_only_fds(
			p->slots, p->plan.nslots, channel, p->proc, a.container, &p->arena);
	if (r >= 0 && container)
		a.enter_flags = ns_flags_to_enter(a.container, p->plan.joined);
	if (r < 0) {
		(void)!channel_send(channel, CHANNEL_FAILED, r, err_msg(), -EBADF);
		_exit(1);
	}
	/*
	 * Reads INIT's pid from the guest's procfs, because hooks get the pid in the container's
	 * state. getpid() would return the pid in INIT's own pid namespace.
	 */
	if (readlinkat(p->proc, "self", pid, sizeof(pid) - 1) > 0)
		p->child.pid = (pid_t)atoi(pid);
	ns_init(&a);
}

static int do_clone(struct process *p, const struct step *s)
{
	struct guest *g = p->guest;
	const struct process *c = p->number ? process_find(g, 0) : NULL;
	struct ns_clone_args a = {
		.clone = s,
		.cgroup = p->cgroup_dir,
		/*
		 * INIT's memory and descriptors are hidden if this is an exec, because processes of
		 * the container can see the new process as soon as it exists.
		 */
		.hide = c != NULL,
	};
	int socks[2];

	if (p->number && !c)
		return err_set(ESRCH, "container not running");
	p->proc = path_open_proc();
	if (p->proc < 0)
		return p->proc;
	int r = channel_pair(socks);
	if (r < 0)
		return r;
	_cleanup_fd_ int theirs = socks[1];
	p->channel = socks[0];
	a.channel = p->channel;
	a.theirs = &theirs;
	r = ns_clone(&a, &p->child);
	if (r == 0)
		become_init(p, theirs, c, (size_t)(s - p->plan.steps) + 1);
	if (r < 0)
		return r;
	for (int i = 0; i < 3; i++)
		fd_close(&p->stdio[i]);
	for (int i = 0; i < p->plan.nslots; i++)
		fd_close(&p->slots[i]);
	if (!p->number && (s->clone.flags & CLONE_NEWNET))
		r = network_hand_over(p);
	return r < 0 ? r : loop_watch(&g->loop, &p->watch, p->channel, EPOLLIN);
}

static int do_id_map(struct process *p, const struct step *s)
{
	return ns_id_map(p->child.pid, &s->map.uid, &s->map.gid);
}

static int do_oom_score(struct process *p, const struct step *s)
{
	/*
	 * Before the process exists its pid is 0, and a step for pid 0 would change the agent
	 * itself.
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
 * Sets the CPU affinity of the agent itself before the clone, because INIT inherits it.
 * process_walk() restores the agent's own affinity after the clone.
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
 * Does a barrier step. Returns 1 if INIT has not reached the barrier yet, so that the agent has to
 * stop here.
 */
static int do_barrier(struct process *p, const struct step *s)
{
	if (s->place != PLACE_GUEST) {
		p->awaited = plan_awaits(&p->plan, PLACE_GUEST, s) ? s->text : NULL;
		return p->awaited != NULL;
	}
	int r = channel_send(p->channel, CHANNEL_REACHED, 0, s->text, -EBADF);
	/* INIT has ended. The channel may still hold a failure that INIT has sent. */
	if (r == -EPIPE || r == -ECONNRESET) {
		p->awaited = s->text;
		return 1;
	}
	return r;
}

typedef int (*guest_fn)(struct process *p, const struct step *s);

static const guest_fn step_functions[STEP_COUNT] = {
	[STEP_CGROUP_CREATE] = do_cgroup_create,
	[STEP_CGROUP_LIMIT] = do_cgroup_limit,
	[STEP_OPEN_ROOT] = guest_open,
	[STEP_OPEN_SOURCE] = guest_open,
	[STEP_CONNECT] = guest_open,
	[STEP_CLONE] = do_clone,
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
		int r = step_functions[s->kind](p, s);
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
