/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/spawn.h"

#include <linux/filter.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "init/image.h"
#include "init/orders.h"
#include "ns/spawn.h"
#include "plan/image.h"

#define PASS_MAX 8 /* how many descriptors INIT gets besides those in slots */

/*
 * Makes the JSON of the container's state that INIT's hooks get. INIT adds the status and the pid,
 * because they are not known here.
 */
static int put_state(struct launch *l, struct init_orders *o)
{
	static const char status[] = "\"status\":", gap[] = "\"\",\"pid\":0";
	_cleanup_strbuf_ struct strbuf state = {0};

	int r = container_state_json(l->c, "", 0, &state);
	if (r < 0)
		return r;
	char *text = arena_strndup(&l->c->arena, strbuf_str(&state), state.len);
	if (!text)
		return -ENOMEM;
	char *at = strstr(text, status);
	if (!at || !str_starts(at + strlen(status), gap))
		return err_set(EPROTO, "the state has no status and pid: %s", text);
	at += strlen(status);
	o->state_tail = at + strlen(gap);
	o->state_head = arena_strndup(&l->c->arena, text, (size_t)(at - text));
	return o->state_head ? 0 : -ENOMEM;
}

static bool has_hooks(const struct plan *p)
{
	for (size_t i = 0; i < p->n; i++)
		if (p->steps[i].kind == STEP_HOOKS && p->steps[i].place == PLACE_INIT)
			return true;
	return false;
}

/*
 * INIT gets the filter's instructions in a memory file of its own, because the file that the
 * runtime has open may be a file of the cache, which containers share.
 */
static int put_filter(struct launch *l, struct init_orders *o)
{
	struct strbuf program = {0};
	int slot = plan_filter_slot(&l->plan);

	if (slot < 0 || l->slots[slot] < 0)
		return 0;
	int r = fd_read_all(l->slots[slot], &program, BPF_MAXINSNS * sizeof(struct sock_filter),
		"the compiled filter");
	if (r >= 0 && program.len % sizeof(*o->filter))
		r = err_set(EINVAL, "the compiled filter is %zu bytes long", program.len);
	if (r < 0) {
		strbuf_release(&program);
		return r;
	}
	o->filter = (uint64_t *)(void *)program.s;
	o->nfilter = program.len / sizeof(*o->filter);
	return 0;
}

/* Puts into the orders the slots (numbered descriptors of the plan) that INIT's steps need. */
static int put_slots(struct launch *l, struct init_orders *o)
{
	int32_t *slots = arena_array(&l->c->arena, (size_t)l->plan.nslots + 1, sizeof(*slots));

	if (!slots)
		return -ENOMEM;
	for (int i = 0; i < l->plan.nslots; i++)
		slots[i] = -1;
	for (size_t i = 0; i < o->plan.n; i++) {
		const struct step *s = &o->plan.steps[i];
		if (s->slot >= 0 && s->place == PLACE_INIT && s->kind != STEP_SECCOMP)
			slots[s->slot] = l->slots[s->slot];
	}
	o->slots = slots;
	o->nslots = (size_t)l->plan.nslots;
	return 0;
}

static void put_env(struct launch *l, struct init_orders *o)
{
	size_t n = 0;

	while (l->env && l->env[n])
		n++;
	o->has_env = l->env != NULL;
	o->env = (struct spec_strings){.v = (const char *const *)l->env, .n = n};
}

static int make_orders(struct launch *l, const struct step *clone, struct init_orders *o)
{
	int r = plan_select(&l->c->arena, &l->plan, 1u << PLACE_INIT,
		(size_t)(clone - l->plan.steps) + 1, &o->plan);

	if (r >= 0)
		r = put_slots(l, o);
	if (r >= 0)
		r = put_filter(l, o);
	if (r >= 0 && has_hooks(&o->plan)) {
		r = put_state(l, o);
		o->hook_out[0] = l->create.hook_out.fd[0];
		o->hook_out[1] = l->create.hook_out.fd[1];
	}
	put_env(l, o);
	o->preserve_fds = (uint32_t)l->preserve_fds;
	o->log_level = (uint32_t)log_level();
	o->tell_steps = log_level() >= LOG_DEBUG;
	if (r >= 0 && l->exec.container >= 0) {
		uint64_t flags = l->plan.joined;
		o->enter_flags = ns_flags_to_enter(l->exec.container, flags);
	}
	return r;
}

/*
 * Stores the device and inode number of the file from which INIT is executed. As long as
 * /proc/PID/exe of INIT is this file, other commands report the container as "created", and
 * afterwards as "running".
 */
static int remember_image(struct launch *l, int image)
{
	struct stat st;

	if (fstat(image, &st) < 0)
		return err_sys("look at the file of caisson-init");
	l->init_dev = st.st_dev;
	l->init_ino = st.st_ino;
	if (l->plan.exec)
		return 0;
	l->c->init_dev = st.st_dev;
	l->c->init_ino = st.st_ino;
	return 0;
}

static int spawn(struct launch *l, const struct step *clone, struct init_orders *o, int image)
{
	int npass = 0;
	int *pass = arena_array(&l->c->arena, o->nslots + PASS_MAX + 2, sizeof(*pass));

	if (!pass)
		return -ENOMEM;
	pass[npass++] = o->channel;
	pass[npass++] = o->stdin_fd;
	pass[npass++] = o->start_fifo;
	pass[npass++] = o->result_fifo;
	pass[npass++] = o->container;
	pass[npass++] = o->pid_ns;
	pass[npass++] = o->hook_out[0];
	pass[npass++] = o->hook_out[1];
	for (size_t i = 0; i < o->nslots; i++)
		pass[npass++] = o->slots[i];
	_cleanup_fd_ int orders = init_orders_write(o);
	if (orders < 0)
		return orders;
	const struct ns_spawn_args a = {
		.clone = clone,
		.cgroup = l->cgroup_dir,
		.cgroup_is_new = !l->plan.exec,
		.image = image,
		.orders = orders,
		.channel = l->channel,
		.pass = pass,
		.npass = (size_t)npass,
		.preserve_fds = l->preserve_fds,
	};
	return ns_spawn(&a, &l->child);
}

/*
 * Opens the pid namespace of the container's first process. It needs a descriptor of its own only
 * if a seccomp listener is handed over, because then it is entered after the others (step_enter()).
 */
static int open_pid_ns(struct launch *l, int *ret)
{
	char path[48];

	if (l->exec.container < 0 || !l->spec->seccomp || !l->spec->seccomp->notify)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", l->c->pid);
	*ret = open(path, O_RDONLY | O_CLOEXEC);
	return *ret < 0 ? err_sys("open the pid namespace of the container") : 0;
}

int launch_spawn(struct launch *l, const struct step *clone, int *theirs)
{
	_cleanup_fd_ int pid_ns = -EBADF;
	struct init_orders o = {
		.channel = *theirs,
		.start_fifo = l->create.start_fifo,
		.result_fifo = l->create.result_fifo,
		.container = l->exec.container,
		.pid_ns = -1,
		.hook_out = {-1, -1},
		/*
		 * If caisson is not root, INIT stays dumpable until its id maps are written,
		 * because the /proc files of a non-dumpable process belong to root, and caisson
		 * could not write the maps.
		 */
		.hide_late = geteuid() != 0 && (clone->clone.flags & CLONE_NEWUSER),
	};

	_cleanup_fd_ int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	if (in < 0)
		return err_sys("duplicate the standard input");
	_cleanup_fd_ int image = init_image_open(o.hide_late, l->c->dir);
	if (image < 0)
		return image;
	o.stdin_fd = in;
	int r = open_pid_ns(l, &pid_ns);
	o.pid_ns = pid_ns;
	if (r >= 0)
		r = make_orders(l, clone, &o);
	if (r >= 0)
		r = remember_image(l, image);
	if (r >= 0)
		r = spawn(l, clone, &o, image);
	free(o.filter);
	fd_close(theirs);
	/*
	 * The runtime closes its own copies, so that only INIT has these open, and execve(2) in
	 * INIT shows as their end.
	 */
	fd_close(&l->create.start_fifo);
	fd_close(&l->create.result_fifo);
	if (r >= 0 && o.hide_late)
		r = interrupt_wait(l->interrupt, l->channel);
	if (r >= 0 && o.hide_late)
		r = ns_await_hello(l->channel);
	return r >= 0 && clone->clone.staged ? ns_await_fork(l->channel, l->interrupt, &l->child)
					     : r;
}
