/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes how many vCPUs and how much memory the machine has while it runs, for the requests "cpus"
 * and "memory". A command that is killed leaves what it has asked for.
 *
 * The machine has all its vCPUs from the beginning (machine/spare.h), and the guest's kernel puts
 * them on line and off line, so only the agent has something to do.
 *
 * If the machine is to have less memory than at its start, the balloon has the rest. The guest's
 * driver fills and empties the balloon when it can, so the monitor only says how far the guest is,
 * and the command asks again (launch/vm_size.c).
 */
#include "monitor/monitor_internal.h"

int machine_size_set_cpus(struct monitor *m, struct client *c, const struct agent_frame *f)
{
	const unsigned max = m->a->machine->max_cpus;
	_cleanup_agent_writer_ struct agent_writer w = {0};
	uint64_t count;

	if (json_get_u64(f->json, "count", &count) < 0 || !count)
		return err_set(EPROTO, "cpus: expected a count from 1");
	if (count > max && !json_get_true(f->json, "clamp"))
		return err_set(EINVAL,
			"%llu vCPUs: expected at most %u, which the microVM was made with: the "
			"annotation " MACHINE_MAX_VCPUS " of config.json sets the maximum",
			(unsigned long long)count, max);
	if (m->agent < 0 || m->phase < PHASE_CREATED || m->phase >= PHASE_EXITED)
		return err_set(ESRCH, "container not running");
	int r = agent_begin(&w, "cpus");
	if (r < 0)
		return r;
	c->request = ++m->next_request;
	json_out_u64(&w.json, "id", c->request);
	json_out_u64(&w.json, "count", count < max ? count : max);
	return agent_send(&w, m->agent, NULL, 0);
}

/*
 * The guest's kernel describes each page of 4096 bytes, also one in the balloon, by a struct of 64
 * bytes.
 */
#define PAGE_PART 64

/* Computes how much of `all` memory the guest does not need for this limit of the container. */
static uint64_t size_of_balloon(uint64_t all, uint64_t limit)
{
	const uint64_t kernel = MACHINE_MEMORY_GUEST + all / PAGE_PART;

	if (!limit || kernel >= all || limit >= all - kernel)
		return 0;
	return (all - kernel - limit) / VIRTIO_BALLOON_PAGE * VIRTIO_BALLOON_PAGE;
}

int machine_size_memory(struct monitor *m, struct client *c, const struct agent_frame *f)
{
	const uint64_t all = m->a->machine->memory;
	_cleanup_agent_writer_ struct agent_writer w = {0};
	struct engine_balloon balloon;
	uint64_t limit;
	int r = 0;

	if (m->phase < PHASE_CREATED || m->phase >= PHASE_EXITED)
		return err_set(ESRCH, "container not running");
	if (json_get(f->json, "limit")) {
		if (json_get_u64(f->json, "limit", &limit) < 0)
			return err_set(EPROTO, "memory: expected a limit in bytes");
		r = engine_set_balloon(&m->engine, size_of_balloon(all, limit));
	}
	if (r >= 0)
		r = agent_begin(&w, "reply");
	if (r < 0)
		return r;
	engine_get_balloon(&m->engine, &balloon);
	json_out_i64(&w.json, "errno", 0);
	json_out_str(&w.json, "message", "");
	json_out_u64(&w.json, "wanted", balloon.wanted);
	json_out_u64(&w.json, "given", balloon.given);
	return agent_send(&w, c->sock, NULL, 0);
}
