/* SPDX-License-Identifier: Apache-2.0 */
#include "init/start.h"

#include <linux/filter.h>

#include "base/fd.h"
#include "plan/image.h"

/*
 * how many descriptors INIT, the container's first process, can get besides those in the slots of
 * the plan
 */
#define PASS_MAX 8

int init_filter_read(struct arena *a, int fd, uint64_t **ret, size_t *ret_n)
{
	_cleanup_strbuf_ struct strbuf program = {0};

	int r = fd_read_all(
		fd, &program, BPF_MAXINSNS * sizeof(struct sock_filter), "the compiled filter");
	if (r < 0)
		return r;
	if (program.len % sizeof(**ret))
		return err_set(EINVAL, "the compiled filter is %zu bytes long", program.len);
	*ret_n = program.len / sizeof(**ret);
	*ret = arena_array(a, *ret_n + 1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	memcpy(*ret, strbuf_str(&program), program.len);
	return 0;
}

static int put_slots(struct arena *a, int nslots, const int *fds, struct init_orders *o)
{
	int32_t *slots = arena_array(a, (size_t)nslots + 1, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (int i = 0; i < nslots; i++)
		slots[i] = -1;
	for (size_t i = 0; i < o->plan.n; i++) {
		const struct step *s = &o->plan.steps[i];
		if (s->slot >= 0 && s->place == PLACE_INIT && s->kind != STEP_SECCOMP)
			slots[s->slot] = fds[s->slot];
	}
	o->slots = slots;
	o->nslots = (size_t)nslots;
	return 0;
}

int init_orders_put_plan(struct arena *a, const struct plan *p, const struct step *clone,
	const int *slots, struct init_orders *o)
{
	int r = plan_select(a, p, 1u << PLACE_INIT, (size_t)(clone - p->steps) + 1, &o->plan);
	if (r >= 0)
		r = put_slots(a, p->nslots, slots, o);
	if (r >= 0 && o->container >= 0)
		o->enter_flags = ns_flags_to_enter(o->container, p->joined);
	return r;
}

int init_orders_put_state(struct arena *a, const char *json, struct init_orders *o)
{
	static const char status[] = "\"status\":", gap[] = "\"\",\"pid\":0";
	char *text = arena_strdup(a, json);

	if (!text)
		return -ENOMEM;
	char *at = strstr(text, status);
	if (!at || !str_starts(at + strlen(status), gap))
		return err_set(EPROTO, "the state has no status and pid: %s", text);
	at += strlen(status);
	o->state_tail = at + strlen(gap);
	o->state_head = arena_strndup(a, text, (size_t)(at - text));
	return o->state_head ? 0 : -ENOMEM;
}

int init_start(struct arena *a, const struct init_orders *o, const struct ns_spawn_args *args,
	struct ns_child *ret)
{
	struct ns_spawn_args spawn = *args;
	size_t n = 0;
	int *pass = arena_array(a, o->nslots + PASS_MAX, sizeof(*pass));

	if (!pass)
		return -ENOMEM;
	pass[n++] = o->channel;
	pass[n++] = o->stdin_fd;
	pass[n++] = o->start_fifo;
	pass[n++] = o->result_fifo;
	pass[n++] = o->container;
	pass[n++] = o->pid_ns;
	pass[n++] = o->hook_out[0];
	pass[n++] = o->hook_out[1];
	for (size_t i = 0; i < o->nslots; i++)
		pass[n++] = o->slots[i];
	_cleanup_fd_ int orders = init_orders_write(o);
	if (orders < 0)
		return orders;
	spawn.orders = orders;
	spawn.pass = pass;
	spawn.npass = n;
	return ns_spawn(&spawn, ret);
}
