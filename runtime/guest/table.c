/* SPDX-License-Identifier: Apache-2.0 */
/* Finds, adds and frees the guest's processes, which are in a list. */
#include <stdlib.h>

#include "base/fd.h"
#include "guest/guest.h"

struct process *process_find(struct guest *g, uint32_t number)
{
	for (struct process *p = g->processes; p; p = p->next)
		if (p->number == number)
			return p;
	return NULL;
}

struct process *process_alloc(struct guest *g, uint32_t number)
{
	struct process *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(ENOMEM, "out of memory");
		return NULL;
	}
	*p = (struct process){.guest = g,
		.number = number,
		.proc = -EBADF,
		.cgroup_dir = -EBADF,
		.channel = -EBADF,
		.slave = -EBADF,
		.child.pidfd = -EBADF,
		.stdio = {-EBADF, -EBADF, -EBADF}};
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		stream_init(&p->streams[i], &g->loop, -EBADF);
	p->next = g->processes;
	g->processes = p;
	return p;
}

void process_free(struct process *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(p->streams); i++)
		stream_end(&p->streams[i]);
	(void)!loop_watch(&p->guest->loop, &p->watch, p->channel, WATCH_NOTHING);
	fd_close(&p->channel);
	for (int i = 0; p->slots && i < p->plan.nslots; i++)
		fd_close(&p->slots[i]);
	for (int i = 0; i < 3; i++)
		fd_close(&p->stdio[i]);
	fd_close(&p->proc);
	fd_close(&p->cgroup_dir);
	fd_close(&p->slave);
	fd_close(&p->child.pidfd);
	arena_release(&p->arena);
	free(p);
}

void processes_release(struct guest *g)
{
	for (struct process *p; (p = g->processes);) {
		g->processes = p->next;
		process_free(p);
	}
}
