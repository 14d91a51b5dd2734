/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/vm_size.h"

#include <poll.h>
#include <stdio.h>

#include "agent/agent.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "machine/machine_config.h"
#include "monitor/control.h"
#include "plan/vm.h"

/*
 * How long, in ms, the guest may take. The guest's agent gives up earlier (guest/cpus.c). On a busy
 * host a kernel may need ten seconds for one vCPU.
 */
#define CALL_MS 60000

/* What is asked of the guest; *before becomes the number of its vCPUs before the request. */
struct cpus_request {
	bool clamp, check;
	uint64_t *before; /* NULL: the caller does not want to know */
};

static int send_cpus(struct container *c, uint64_t count, const struct cpus_request *q)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	_cleanup_fd_ int sock = control_connect(c->dir);

	int r = sock < 0 ? sock : agent_begin(&w, "cpus");
	if (r < 0)
		return r;
	json_out_u64(&w.json, "count", count);
	json_out_bool(&w.json, "clamp", q->clamp);
	json_out_bool(&w.json, "check", q->check);
	r = control_call(sock, &w, NULL, CALL_MS, &reply);
	/* The agent of an earlier caisson, in a machine from a snapshot, does not say this. */
	if (r >= 0 && q->before && json_get_u64(reply.json, "before", q->before) < 0)
		*q->before = VM_SIZE_UNKNOWN;
	return r;
}

static uint64_t whole_cpus(int64_t quota, uint64_t period)
{
	return ((uint64_t)quota + period - 1) / period;
}

int vm_size_check_cpus(struct container *c, int64_t quota, uint64_t period)
{
	return send_cpus(c, whole_cpus(quota, period), &(struct cpus_request){.check = true});
}

int vm_size_set_cpus(struct container *c, int64_t quota, uint64_t period, uint64_t *ret_before)
{
	return send_cpus(
		c, whole_cpus(quota, period), &(struct cpus_request){.before = ret_before});
}

int vm_size_undo_cpus(struct container *c, uint64_t before, int error)
{
	char why[ERR_MAX];

	if (before == 0)
		return error;
	if (before == VM_SIZE_UNKNOWN)
		return err_ctx(error, "the vCPUs stay changed");
	snprintf(why, sizeof(why), "%s", err_msg());
	if (send_cpus(c, before, &(struct cpus_request){.clamp = true}) < 0)
		log_warn("the number of vCPUs is not restored: %s", err_msg());
	return err_set(-error, "%s", why);
}

/* Asks for the vCPUs that the limits' quota of CPU time needs, or only whether that can be done. */
static int send_quota(
	struct container *c, const struct cg_resources *limits, struct cpus_request *q)
{
	const struct opt_u64 *period = &limits->cpu.period;
	const struct spec *s;

	if (!limits->cpu.quota.set || limits->cpu.quota.v <= 0)
		return 0;
	int r = container_spec(c, &s);
	if (r < 0)
		return r;
	if (!spec_annotation(s, MACHINE_MAX_VCPUS) || (s->vm && s->vm->vcpus.set))
		return 0;
	if (!period->set)
		period = &s->resources.cpu.period;
	q->clamp = true;
	return send_cpus(c,
		whole_cpus(
			limits->cpu.quota.v, period->set && period->v ? period->v : VM_SIZE_PERIOD),
		q);
}

int vm_size_check_quota(struct container *c, const struct cg_resources *limits)
{
	return send_quota(c, limits, &(struct cpus_request){.check = true});
}

int vm_size_follow_quota(
	struct container *c, const struct cg_resources *limits, uint64_t *ret_before)
{
	return send_quota(c, limits, &(struct cpus_request){.before = ret_before});
}

/* --- memory --- */

/* how long, in ms, the guest may take no memory of a growth, and how long it may take in all */
#define STUCK_MS 20000
#define MEMORY_MS 300000
#define ASK_AGAIN_MS 20

/* How large the balloon is, and how much memory the guest has got, in bytes. */
struct memory {
	uint64_t wanted, given;
	uint64_t requested, plugged;
	uint64_t before; /* what the guest was asked for before this request */
};

/* What the monitor is asked to do before it says how far the guest is. */
struct order {
	const char *name; /* of the member of the request; NULL: nothing */
	uint64_t value;
	bool grow;        /* the guest only gets memory */
	uint64_t balloon; /* with "undo": what the balloon is to give to the host */
};

/* Asks the monitor how far the guest is, and to do something before. */
static int ask_memory(struct container *c, const struct order *o, struct memory *ret)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	_cleanup_fd_ int sock = control_connect(c->dir);

	int r = sock < 0 ? sock : agent_begin(&w, "memory");
	if (r < 0)
		return r;
	if (o->name)
		json_out_u64(&w.json, o->name, o->value);
	json_out_bool(&w.json, "grow", o->grow);
	if (o->name && streq(o->name, "undo"))
		json_out_u64(&w.json, "balloon", o->balloon);
	r = control_call(sock, &w, NULL, CALL_MS, &reply);
	if (r < 0)
		return r;
	/* A monitor that was started by an earlier caisson does not say this. */
	if (json_get_u64(reply.json, "before", &ret->before) < 0)
		ret->before = VM_SIZE_UNKNOWN;
	if (json_get_u64(reply.json, "wanted", &ret->wanted) < 0 ||
		json_get_u64(reply.json, "given", &ret->given) < 0 ||
		json_get_u64(reply.json, "requested", &ret->requested) < 0 ||
		json_get_u64(reply.json, "plugged", &ret->plugged) < 0)
		return err_set(EPROTO, "the monitor did not say how much memory the guest has");
	return 0;
}

/*
 * Asks for no more than the guest has taken, because its limit will not be raised. Otherwise it
 * could take the rest later.
 */
static void withdraw(struct container *c)
{
	struct memory m;

	if (ask_memory(c, &(struct order){"limit", UINT64_MAX, true, 0}, &m) < 0)
		log_debug("%s", err_msg());
}

/* Waits until the guest has got the memory that it was asked to take. */
static int await_growth(struct container *c, struct memory *m)
{
	const int64_t begin = clock_ms();
	int64_t moved = begin;

	while (m->plugged < m->requested) {
		const uint64_t before = m->plugged;
		const int64_t now = clock_ms();

		if (now - moved > STUCK_MS || now - begin > MEMORY_MS) {
			withdraw(c);
			return err_set(ETIMEDOUT,
				"the guest has taken %llu of the %llu MiB more than at its start, "
				"and takes no more: its kernel needs the driver virtio_mem",
				(unsigned long long)(m->plugged >> 20),
				(unsigned long long)(m->requested >> 20));
		}
		poll(NULL, 0, ASK_AGAIN_MS);
		int r = ask_memory(c, &(struct order){0}, m);
		if (r < 0)
			return r;
		if (m->plugged != before)
			moved = clock_ms();
	}
	return 0;
}

/* Says whether these limits have a memory limit; -1 and "max", which lift it, are limits too. */
static bool has_memory_limit(const struct cg_resources *limits, const char *field)
{
	return limits->memory.limit.set || strstr(field, "unified");
}

/*
 * Makes the guest's memory follow these limits. With `grow` *ret_before is what the machine was to
 * have before.
 */
static int follow_memory(struct container *c, const struct cg_resources *limits, bool grow,
	struct vm_size_memory *ret_before)
{
	const char *field, *of_config;
	uint64_t limit = plan_vm_memory_limit(limits, &field);
	struct memory m;
	const struct spec *s;

	*ret_before = (struct vm_size_memory){.growth = VM_SIZE_UNKNOWN};
	if (!has_memory_limit(limits, field))
		return 0;
	int r = container_spec(c, &s);
	if (r < 0)
		return r;
	/*
	 * Engines send the limit of config.json with every update. The machine was made for that
	 * limit, so the limit means all of the memory with which the machine has started, and no
	 * more.
	 */
	if (limit == 0)
		limit = UINT64_MAX;
	else if (limit == plan_vm_memory_limit(&s->resources, &of_config))
		limit = 0;
	r = ask_memory(c, &(struct order){"limit", limit, grow, 0}, &m);
	/*
	 * The command does not wait for memory that the guest gives: the guest's kernel goes on
	 * trying by itself, may take long, and the limit holds all the same.
	 */
	if (r >= 0)
		*ret_before = (struct vm_size_memory){m.before, m.wanted};
	if (r >= 0 && grow)
		r = await_growth(c, &m);
	if (r < 0)
		return err_ctx(r, "%s", field);
	log_debug("memory: the balloon has %llu of %llu MiB; %llu of %llu MiB were added",
		(unsigned long long)(m.given >> 20), (unsigned long long)(m.wanted >> 20),
		(unsigned long long)(m.plugged >> 20), (unsigned long long)(m.requested >> 20));
	return m.requested > 0;
}

int vm_size_grow_memory(
	struct container *c, const struct cg_resources *limits, struct vm_size_memory *ret_before)
{
	return follow_memory(c, limits, true, ret_before);
}

int vm_size_shrink_memory(struct container *c, const struct cg_resources *limits)
{
	struct vm_size_memory before;
	int r = follow_memory(c, limits, false, &before);

	return r < 0 ? r : 0;
}

int vm_size_undo_memory(struct container *c, const struct vm_size_memory *before, int error)
{
	char why[ERR_MAX];
	struct memory m;

	if (before->growth == VM_SIZE_UNKNOWN)
		return error;
	snprintf(why, sizeof(why), "%s", err_msg());
	const struct order o = {"undo", before->growth, false, before->balloon};
	if (ask_memory(c, &o, &m) < 0)
		log_warn("the size of the guest's memory is not restored: %s", err_msg());
	return err_set(-error, "%s", why);
}
