/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-init: the program of the first process of a container, and of an exec, until the process
 * executes the container's program.
 *
 * Theory of operation. caisson-init is a program of its own, because a process of the container may
 * look at the process that runs it. The file from which caisson-init is executed is used by nothing
 * else (init/image.h), and its command line, its environment and its memory contain nothing of the
 * host. The runtime starts caisson-init with only those descriptors that the orders (init/orders.h)
 * name; all others are close-on-exec.
 *
 * The program is small and starts fast, because every start of a container waits for it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fd.h"
#include "base/path.h"
#include "init/init_log.h"
#include "init/orders.h"
#include "ns/channel.h"
#include "ns/ns.h"

struct init {
	const struct init_orders *orders;
	char pid[32]; /* pid in the host's pid namespace of INIT, this process, as text */
};

/*
 * Reads from the host's procfs the pid that INIT (this process) has on the host, because hooks get
 * that pid. getpid() would return the pid in INIT's own pid namespace.
 */
static void find_pid(struct init *i, int proc)
{
	ssize_t n = readlinkat(proc, "self", i->pid, sizeof(i->pid) - 1);

	i->pid[n < 0 ? 0 : n] = '\0';
}

static void take_pid(void *data, pid_t pid)
{
	struct init *i = data;

	if (pid > 0)
		snprintf(i->pid, sizeof(i->pid), "%d", pid);
	else
		i->pid[0] = '\0';
}

/*
 * Makes the container's state, which hooks get. The runtime has made the JSON text without the
 * status and the pid, because only INIT (this process) knows these two.
 */
static int state_json(void *data, const char *status, struct strbuf *ret)
{
	const struct init *i = data;

	if (!i->orders->state_head || !i->orders->state_tail || !*i->pid)
		return err_set(EPROTO, "the orders have no state for hooks");
	return strbuf_addf(ret, "%s\"%s\",\"pid\":%s%s", i->orders->state_head, status, i->pid,
		i->orders->state_tail);
}

static int set_close_on_exec(const struct init_orders *o)
{
	const int fds[] = {o->channel, o->start_fifo, o->result_fifo, o->container, o->pid_ns,
		o->hook_out[0], o->hook_out[1]};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] >= 0 && fcntl(fds[i], F_SETFD, FD_CLOEXEC) < 0)
			return err_sys("mark descriptor %d close-on-exec", fds[i]);
	for (size_t i = 0; i < o->nslots; i++)
		if (o->slots[i] >= 0 && fcntl(o->slots[i], F_SETFD, FD_CLOEXEC) < 0)
			return err_sys("mark descriptor %d close-on-exec", o->slots[i]);
	return 0;
}

static int set_up(const struct init_orders *o, struct init *i)
{
	if (!o->hide_late && prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_sys("make this process non-dumpable");
	if (o->stdin_fd >= 0 && dup2(o->stdin_fd, STDIN_FILENO) < 0)
		return err_sys("put the standard input in its place");
	if (o->stdin_fd >= 0)
		close(o->stdin_fd);
	int r = set_close_on_exec(o);
	if (r < 0)
		return r;
	int proc = path_open_proc();
	if (proc >= 0)
		find_pid(i, proc);
	return proc;
}

int main(void)
{
	_cleanup_arena_ struct arena arena = {0};
	struct init_orders *o;

	prctl(PR_SET_NAME, "caisson-init");
	if (init_orders_read(STDIN_FILENO, &o) < 0)
		_exit(3);
	struct init init = {.orders = o};
	init_log_open(o->channel, (enum log_level)o->log_level);
	int proc = set_up(o, &init);
	if (proc < 0)
		_exit(channel_write(o->channel, CHANNEL_FAILED, proc, err_msg()) < 0 ? 2 : 1);
	const struct ns_init_args a = {
		.plan = &o->plan,
		.slots = o->slots,
		.channel = o->channel,
		.start_fifo = o->start_fifo,
		.result_fifo = o->result_fifo,
		.proc = proc,
		.container = o->container,
		.pid_ns = o->pid_ns,
		.enter_flags = o->enter_flags,
		.filter = o->nfilter ? o->filter : NULL,
		.filter_len = o->nfilter * sizeof(*o->filter),
		.hide_late = o->hide_late,
		.preserve_fds = (int)o->preserve_fds,
		.env = o->has_env ? (char *const *)o->env.v : NULL,
		.hook_out = o->hook_out,
		.state_json = state_json,
		.state_data = &init,
		.reborn = take_pid,
		.arena = &arena,
		.told = o->tell_steps ? init_log_step : NULL,
		.stop_log = init_log_close,
	};

	ns_init(&a);
}
