/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/spawn.h"

#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/fd.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "init/image.h"
#include "init/start.h"
#include "launch/timeline.h"

static int put_state(struct launch *l, struct init_orders *o)
{
	_cleanup_strbuf_ struct strbuf state = {0};

	int r = container_state_json(l->c, "", 0, &state);
	return r < 0 ? r : init_orders_put_state(&l->c->arena, strbuf_str(&state), o);
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
	int filter = plan_filter_slot(&l->plan);

	int r = init_orders_put_plan(&l->c->arena, &l->plan, clone, l->slots, o);
	if (r >= 0 && filter >= 0 && l->slots[filter] >= 0)
		r = init_filter_read(&l->c->arena, l->slots[filter], &o->filter, &o->nfilter);
	if (r >= 0 && plan_has_init_hooks(&o->plan)) {
		r = put_state(l, o);
		o->hook_out[0] = l->create.hook_out.fd[0];
		o->hook_out[1] = l->create.hook_out.fd[1];
	}
	put_env(l, o);
	o->preserve_fds = (uint32_t)l->preserve_fds;
	o->log_level = (uint32_t)log_level();
	o->tell_steps = l->timeline || log_level() >= LOG_DEBUG;
	return r;
}

/*
 * Stores the device and inode number of the file from which caisson-init is executed. As long as
 * /proc/PID/exe of the container's first process is this file, other commands report the container
 * as "created", and afterwards as "running".
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

/*
 * Opens the pid namespace that the new process of an exec must enter after the other namespaces
 * (see step_enter()).
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
		 * If caisson is not root, INIT (the container's first process) stays dumpable until
		 * its id maps are written, because the /proc files of a non-dumpable process belong
		 * to root, and caisson could not write the maps.
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
	const struct ns_spawn_args a = {
		.clone = clone,
		.cgroup = l->cgroup_dir,
		.cgroup_is_new = !l->plan.exec,
		.image = image,
		.stdout_fd = -EBADF,
		.stderr_fd = -EBADF,
		.channel = l->channel,
		.preserve_fds = l->preserve_fds,
		.meanwhile = launch_allow_devices,
		.data = l,
	};
	if (r >= 0)
		r = init_start(&l->c->arena, &o, &a, &l->child);
	fd_close(theirs);
	/*
	 * The runtime closes its own descriptors of these files, so that only INIT (the container's
	 * first process) has them open. Therefore their readers see an end of file when INIT
	 * executes the program, because execve(2) closes INIT's descriptors.
	 */
	fd_close(&l->create.start_fifo);
	fd_close(&l->create.result_fifo);
	if (r >= 0 && o.hide_late)
		r = interrupt_wait(l->interrupt, l->channel);
	if (r >= 0 && o.hide_late)
		r = ns_await_hello(l->channel);
	if (r >= 0 && clone->clone.staged)
		r = ns_await_fork(l->channel, l->interrupt, &l->child, timeline_init_step, l);
	return r;
}
