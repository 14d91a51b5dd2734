/* SPDX-License-Identifier: Apache-2.0 */
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/sys.h"
#include "ns/channel.h"
#include "ns/ns.h"
#include "step/step.h"

struct init {
	const struct ns_init_args *a;
	/*
	 * Descriptor to which INIT, the container's first process, reports. It is the channel to
	 * the runtime or, once INIT has passed the step WAIT_START of a `create`, the FIFO
	 * result.fifo.
	 */
	int report_to;
};

static int report(void *data, const char *barrier)
{
	struct init *i = data;

	/*
	 * INIT, the container's first process, stops logging before it reports the barrier
	 * "created", because the runtime of `create` may end as soon as it has read the report, and
	 * no one would read the log lines then.
	 */
	if (i->a->stop_log && i->a->start_fifo >= 0 && streq(barrier, "created"))
		i->a->stop_log();
	return channel_write(i->report_to, CHANNEL_REACHED, 0, barrier);
}

static int await(void *data, const char *barrier)
{
	struct init *i = data;

	int r = channel_await(i->a->channel, barrier);
	if (r == 0)
		/*
		 * The channel is at its end, because the runtime has failed or was killed. This
		 * process exits, because no process is left to which it could report.
		 */
		_exit(1);
	if (r > 0 && i->a->hide_late && streq(barrier, "placed") && prctl(PR_SET_DUMPABLE, 0) < 0)
		return err_sys("make this process non-dumpable");
	return r < 0 ? r : 0;
}

static int send_fd(void *data, const char *what, int fd)
{
	struct init *i = data;

	return channel_send(i->a->channel, CHANNEL_FD, 0, what, fd);
}

static int take_fd_named(void *data, const char *what)
{
	struct init *i = data;
	struct channel_msg m;
	int fd = -EBADF;

	int r = channel_recv(i->a->channel, &m, &fd);
	if (r == 0)
		/* This process exits, because the channel is at its end: the runtime has ended. */
		_exit(1);
	if (r > 0 && m.type == CHANNEL_FD && streq(m.text, what) && fd >= 0)
		return fd;
	fd_close(&fd);
	return r < 0 ? r : err_set(EPROTO, "expected \"%s\" from the runtime", what);
}

static int forked(void *data, pid_t pid)
{
	struct init *i = data;

	return channel_write(i->a->channel, CHANNEL_FORKED, pid, "");
}

static void reborn(void *data, pid_t pid)
{
	struct init *i = data;

	if (i->a->reborn)
		i->a->reborn(i->a->state_data, pid);
}

/*
 * Waits until the command `start` is called. If `create` made the container, its runtime is about
 * to end, so INIT, the container's first process, can no longer use the channel. INIT uses two
 * FIFOs in the state directory instead: it reads start.fifo, and reports to result.fifo. Only the
 * runtime's user can enter that directory, and `start` opens the FIFOs there. INIT's descriptors
 * are open for reading and writing, so that read(2) waits while no other process has the FIFO open.
 * INIT makes no call here but read(2), because the system call filter may already be loaded.
 */
static int wait_start(void *data)
{
	struct init *i = data;
	char byte;
	ssize_t n;

	if (i->a->start_fifo < 0)
		return await(data, "start");
	do
		n = read(i->a->start_fifo, &byte, 1);
	while (n < 0 && errno == EINTR);
	i->report_to = i->a->result_fifo;
	return n == 1 ? 0 : err_sys("wait for the start command");
}

/*
 * Does the same steps as step_walk(), and calls a->told after each step that this process has done.
 */
static int walk_aloud(struct step_ctx *c, const struct ns_init_args *a)
{
	int r = 0;

	for (size_t i = a->from; i < a->plan->n && r >= 0; i++) {
		const struct step *s = &a->plan->steps[i];
		uint64_t start = clock_ns();
		r = step_do(c, s);
		if (r >= 0 && (s->place == c->place || s->kind == STEP_BARRIER))
			a->told(i, clock_ns() - start);
	}
	return r < 0 ? r : 0;
}

static void keep(struct step_ctx *c, int fd)
{
	if (fd >= 0)
		c->keep[c->nkeep++] = fd;
}

_Noreturn void ns_init(const struct ns_init_args *a)
{
	struct init init = {.a = a, .report_to = a->channel};
	struct step_ctx c = {
		.plan = a->plan,
		.place = PLACE_INIT,
		.peer =
			{
				.data = &init,
				.report = report,
				.await = await,
				.send_fd = send_fd,
				.take_fd = take_fd_named,
				.forked = forked,
				.reborn = reborn,
				.wait_start = wait_start,
			},
		.slots = a->slots,
		.root = -EBADF,
		.proc = a->proc,
		.joined_proc = -EBADF,
		.container = a->container,
		.pid_ns = a->pid_ns,
		.enter_flags = a->enter_flags,
		.preserve_fds = (unsigned)a->preserve_fds,
		.filter = a->filter,
		.filter_len = a->filter_len,
		.detached = a->start_fifo >= 0,
		.console = -EBADF,
		.null_cover.fd = -EBADF,
		.dir_cover.fd = -EBADF,
		.env = a->env,
		.hook_out = a->hook_out,
		.state_json = a->state_json,
		.state_data = a->state_data,
		.arena = a->arena,
	};

	/*
	 * The container's first process closes all other descriptors, so that neither the runtime's
	 * descriptors, nor those that caisson's caller leaked into the runtime, reach the container
	 * (CVE-2024-21626).
	 */
	int r = 0;
	/*
	 * The container's first process leads a session of its own, so that it gets signals from
	 * the runtime and not from the terminal on which caisson was started.
	 */
	setsid();
	keep(&c, a->channel);
	keep(&c, a->start_fifo);
	keep(&c, a->result_fifo);
	if (close_range(3 + (unsigned)a->preserve_fds, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		r = err_sys("mark descriptors close-on-exec");
	if (r == 0 && a->hide_late)
		r = channel_write(a->channel, CHANNEL_REACHED, 0, CHANNEL_HELLO);
	if (r == 0)
		r = a->told ? walk_aloud(&c, a) : step_walk(&c, a->from);
	if (r == 0)
		r = err_set(EINVAL, "process: missing: there is nothing to start");
	if (channel_write(init.report_to, CHANNEL_FAILED, r, err_msg()) < 0)
		_exit(2);
	_exit(1);
}
