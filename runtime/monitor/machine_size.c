/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes how many vCPUs and how much memory the machine has while it runs, for the requests "cpus"
 * and "memory". What a command has asked for stays if the command is killed.
 *
 * The machine has all its vCPUs from the beginning (machine/spare.h), and the guest's kernel puts
 * them on line and off line, so only the agent has something to do.
 *
 * If the machine is to have less memory than at its start, the balloon has the rest. If it is to
 * have more, the memory device (vm/virtio/mem.h) has that. The guest's drivers follow when they
 * can, so the monitor only says how far the guest is, and the command asks again
 * (launch/vm_size.c).
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
	int r = monitor_check_running(m, true);
	if (r >= 0)
		r = agent_begin(&w, "cpus");
	if (r < 0)
		return r;
	c->request = ++m->next_request;
	json_out_u64(&w.json, "id", c->request);
	json_out_u64(&w.json, "count", count < max ? count : max);
	json_out_bool(&w.json, "check", json_get_true(f->json, "check"));
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

/*
 * Computes how much memory the guest needs for this limit beyond what it has started with, in
 * blocks of the memory device.
 */
static int size_of_growth(const struct machine_config *c, uint64_t limit, uint64_t *ret)
{
	const uint64_t block = VIRTIO_MEM_BLOCK;

	*ret = 0;
	if (!c->hot_memory || !limit)
		return 0;
	if (limit > c->memory + c->hot_memory)
		return err_set(EINVAL,
			"%llu bytes: expected at most %llu, which the "
			"annotation " MACHINE_MAX_MEMORY " of config.json sets",
			(unsigned long long)limit, (unsigned long long)(c->memory + c->hot_memory));
	if (limit + MACHINE_MEMORY_GUEST > c->memory)
		*ret = (limit + MACHINE_MEMORY_GUEST - c->memory + block - 1) / block * block;
	*ret = *ret < c->hot_memory ? *ret : c->hot_memory;
	return 0;
}

/*
 * Makes the machine as large as this limit of the container needs it. With `grow` the guest only
 * gets memory and gives none, because its own limit is not changed yet. What the guest was asked
 * for earlier and has not taken is not asked for again, because a guest without a driver never
 * takes any, and each later limit would wait for it.
 */
static int resize(struct monitor *m, uint64_t limit, bool grow)
{
	const struct machine_config *c = m->a->machine;
	struct engine_hot_memory now;
	uint64_t growth;

	engine_get_memory(&m->engine, &now);
	int r = size_of_growth(c, limit == UINT64_MAX ? 0 : limit, &growth);
	if (r < 0)
		return r;
	const uint64_t kept = now.plugged < now.requested ? now.plugged : now.requested;
	if (limit == UINT64_MAX || (grow && growth < kept))
		growth = kept;
	engine_request_memory(&m->engine, growth);
	return grow ? 0 : engine_set_balloon(&m->engine, size_of_balloon(c->memory, limit));
}

/*
 * Asks the guest again for what it was asked for before a change, because the command could not do
 * the rest of what it was told to do. The command of an earlier caisson does not name the balloon.
 */
static int undo_change(struct monitor *m, const struct agent_frame *f)
{
	uint64_t bytes, balloon = 0;

	if (json_get_u64(f->json, "undo", &bytes) < 0 || bytes % VIRTIO_MEM_BLOCK ||
		bytes > m->a->machine->hot_memory)
		return err_set(EPROTO, "memory: expected what the guest was asked for before");
	const bool has_balloon = json_get(f->json, "balloon") != NULL;
	if (has_balloon &&
		(json_get_u64(f->json, "balloon", &balloon) < 0 || balloon % VIRTIO_BALLOON_PAGE ||
			balloon > m->a->machine->memory))
		return err_set(EPROTO, "memory: expected what the balloon was to have before");
	engine_request_memory(&m->engine, bytes);
	return has_balloon ? engine_set_balloon(&m->engine, balloon) : 0;
}

int machine_size_memory(struct monitor *m, struct client *c, const struct agent_frame *f)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	struct engine_hot_memory memory, before;
	struct engine_balloon balloon;
	uint64_t limit;

	int r = monitor_check_running(m, false);
	engine_get_memory(&m->engine, &before);
	if (r >= 0 && json_get(f->json, "undo")) {
		r = undo_change(m, f);
	} else if (r >= 0 && json_get(f->json, "limit")) {
		if (json_get_u64(f->json, "limit", &limit) < 0)
			return err_set(EPROTO, "memory: expected a limit in bytes");
		r = resize(m, limit, json_get_true(f->json, "grow"));
	}
	if (r >= 0)
		r = agent_begin(&w, "reply");
	if (r < 0)
		return r;
	engine_get_balloon(&m->engine, &balloon);
	engine_get_memory(&m->engine, &memory);
	json_out_i64(&w.json, "errno", 0);
	json_out_str(&w.json, "message", "");
	json_out_u64(&w.json, "wanted", balloon.wanted);
	json_out_u64(&w.json, "given", balloon.given);
	json_out_u64(&w.json, "before", before.requested);
	json_out_u64(&w.json, "requested", memory.requested);
	json_out_u64(&w.json, "plugged", memory.plugged);
	return agent_send(&w, c->sock, NULL, 0);
}
