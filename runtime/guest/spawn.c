/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the step CLONE in the guest: makes INIT, the container's first process, as the runtime does
 * on the host (launch/spawn.c), with the same program and the same form of orders. No process of
 * the container can see INIT before INIT is in the container, and a process that looks later finds
 * nothing of the agent in INIT: see init/main.c.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/path.h"
#include "guest/guest.h"
#include "init/image.h"
#include "init/start.h"
#include "ns/channel.h"

static int spawn(struct process *p, const struct step *clone, struct init_orders *o)
{
	int r = init_orders_put_plan(&p->arena, &p->plan, clone, p->slots, o);
	if (r >= 0 && p->orders->state)
		r = init_orders_put_state(&p->arena, p->orders->state, o);
	o->filter = p->orders->filter;
	o->nfilter = p->orders->nfilter;
	if (r < 0)
		return r;
	_cleanup_fd_ int dir = open(p->guest->config->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int image = init_image_open(false, dir);
	if (image < 0)
		return image;
	const struct ns_spawn_args a = {
		.clone = clone,
		.cgroup = p->cgroup_dir,
		.image = image,
		.stdout_fd = p->stdio[1],
		.stderr_fd = p->stdio[2],
		.channel = p->channel,
	};
	return init_start(&p->arena, o, &a, &p->child);
}

static void close_what_init_has(struct process *p)
{
	for (int i = 0; i < 3; i++)
		fd_close(&p->stdio[i]);
	for (int i = 0; i < p->plan.nslots; i++)
		fd_close(&p->slots[i]);
}

/*
 * Returns whether the process that the step CLONE makes is a stage: a process that makes, by the
 * step FORK, the process that executes the program.
 */
static bool plan_forks(const struct plan *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->steps[i].kind == STEP_FORK)
			return true;
	return false;
}

int guest_clone(struct process *p, const struct step *s)
{
	const struct process *c = p->number ? process_find(p->guest, 0) : NULL;
	int socks[2];

	if (p->number && !c && !p->guest->config->service)
		return err_set(ESRCH, "container not running");
	p->proc = path_open_proc();
	if (p->proc < 0)
		return p->proc;
	int r = channel_pair(socks);
	if (r < 0)
		return r;
	_cleanup_fd_ int theirs = socks[1];
	p->channel = socks[0];
	struct init_orders o = {
		.channel = theirs,
		.start_fifo = -1,
		.result_fifo = -1,
		.stdin_fd = p->stdio[0],
		.container = c ? c->child.pidfd : -1,
		.pid_ns = -1,
		.hook_out = {-1, -1},
		.log_level = LOG_WARN,
		.tell_steps = p->orders->tell_steps,
	};
	p->cloned_at = clock_ns();
	r = spawn(p, s, &o);
	fd_close(&theirs);
	if (r >= 0 && s->clone.staged)
		r = ns_await_fork(p->channel, -EBADF, &p->child, steps_of_init, p);
	if (r < 0)
		return r;
	p->forks = !s->clone.staged && plan_forks(&p->plan);
	close_what_init_has(p);
	r = network_hand_over(p);
	return r < 0 ? r : loop_watch(&p->guest->loop, &p->watch, p->channel, EPOLLIN);
}
