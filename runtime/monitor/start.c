/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does the steps of the plan whose party is MONITOR and starts the machine, up to the point at
 * which the loop of monitor.c waits for events.
 */
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/userns.h"
#include "monitor/impersonate.h"
#include "monitor/monitor_internal.h"
#include "ns/channel.h"
#include "step/step.h"

static int report(void *data, const char *barrier)
{
	struct monitor *m = data;

	return channel_report(m->channel, barrier);
}

static int await(void *data, const char *barrier)
{
	struct monitor *m = data;

	return channel_await_or_exit(m->channel, barrier);
}

/* Does the steps of the plan whose party is MONITOR, up to the last of them, STEP_MACHINE. */
static int do_steps(struct monitor *m)
{
	const struct monitor_args *a = m->a;
	struct step_ctx c = {
		.plan = a->plan,
		.place = PLACE_MONITOR,
		.peer = {.data = m, .report = report, .await = await},
		.slots = a->slots,
		.root = -EBADF,
		.proc = a->proc,
		.joined_proc = -EBADF,
		.console = -EBADF,
		.null_cover.fd = -EBADF,
		.dir_cover.fd = -EBADF,
		.hook_out = a->hook_out,
		.state_json = a->state_json,
		.state_data = a->data,
		.arena = a->arena,
	};
	const struct step *clone = &a->plan->steps[a->from - 1];

	/*
	 * An ordinary user's monitor is not root in its user namespace. It passes its capabilities
	 * on to the programs that it executes, as root's monitor does.
	 */
	int r = clone->clone.flags & CLONE_NEWUSER ? userns_raise_ambient() : 0;
	if (r < 0)
		return err_sys("keep the capabilities of the monitor's user namespace");
	for (size_t i = a->from; i < a->plan->n; i++) {
		const struct step *s = &a->plan->steps[i];
		if (s->kind == STEP_MACHINE) {
			fd_close(&a->hook_out[0]);
			fd_close(&a->hook_out[1]);
			r = foreign_here(m) ? 0 : a->make_orders(a->data, a->orders);
			if (r >= 0)
				r = monitor_boot(m);
			spans_step(m, s);
			return r;
		}
		r = step_do(&c, s);
		if (r < 0)
			return r;
		spans_step(m, s);
	}
	return err_set(EINVAL, "the plan has no machine");
}

/*
 * Makes the monitor's terminal, and sends its master side to the runtime. The monitor offers the
 * slave side to the guest, which connects it to the container's terminal.
 */
static int open_terminal(struct monitor *m)
{
	const struct plan_env *e = m->a->env;
	const struct spec_process *p = m->a->plan->process;

	uint16_t rows = p->console_height ? p->console_height : e->console_height;
	uint16_t columns = p->console_width ? p->console_width : e->console_width;
	int r = impersonate_terminal(rows, columns, m->channel, &m->console);
	if (r < 0)
		return r;
	if (foreign_here(m))
		return 0;
	_cleanup_fd_ int guest = fcntl(m->console, F_DUPFD_CLOEXEC, 3);
	if (guest < 0)
		return err_sys("duplicate the terminal");
	r = streams_offer(&m->streams, 0, AGENT_TERMINAL, guest);
	if (r >= 0)
		take_fd(&guest);
	return r;
}

/*
 * Offers the monitor's standard streams to the guest. The monitor itself gets /dev/null in their
 * place. Otherwise the reader of the guest's output would not see the end of the output when the
 * guest closes a stream, because the monitor would hold the stream open.
 */
static int offer_stdio(struct monitor *m)
{
	const bool offered = !m->a->plan->terminal && !foreign_here(m);

	for (int i = 0; offered && i <= STDERR_FILENO; i++) {
		/*
		 * A restored guest is offered all standard streams, even those that are /dev/null
		 * now, because they may have been something else when the guest was saved.
		 */
		if (!m->a->restore && fd_is_null(i))
			continue;
		int fd = fcntl(i, F_DUPFD_CLOEXEC, 3);
		if (fd < 0)
			return err_sys("duplicate a standard stream");
		int r = streams_offer(&m->streams, 0, (unsigned)i, fd);
		if (r < 0)
			return r;
	}
	return fd_set_streams(-EBADF, -EBADF, -EBADF);
}

/*
 * Connects the console of a foreign guest to the terminal, or else to the monitor's standard
 * streams. The console of a machine in the background is connected to no standard stream, because
 * its users attach by `caisson console`.
 */
static int connect_console(struct monitor *m)
{
	const bool attended = m->a->failure >= 0;
	int in = -EBADF, out = -EBADF;

	if (!foreign_here(m))
		return 0;
	if (m->console >= 0)
		in = out = fcntl(m->console, F_DUPFD_CLOEXEC, 3);
	if (m->console < 0 && attended && !fd_is_null(STDIN_FILENO))
		in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	if (m->console < 0 && attended && !fd_is_null(STDOUT_FILENO))
		out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	return console_init(&m->console_io, in, out);
}

/*
 * Closes the descriptors that the monitor inherited and does not need, and makes those that it
 * keeps close-on-exec.
 */
static int close_inherited(const struct monitor *m)
{
	const struct monitor_args *a = m->a;
	const int ours[] = {a->channel, a->start_socket, a->start_lock, a->control, a->failure,
		a->disk_error, a->proc, a->hook_out[0], a->hook_out[1], log_fd(),
		a->restore ? a->restore->state : -EBADF, a->restore ? a->restore->memory : -EBADF};
	const size_t n = ARRAY_SIZE(ours), nslots = (size_t)a->plan->nslots;
	int *keep = arena_array(a->arena, n + nslots, sizeof(*keep));

	if (!keep)
		return -ENOMEM;
	memcpy(keep, ours, sizeof(ours));
	memcpy(keep + n, a->slots, nslots * sizeof(*keep));
	int r = fd_close_all_but(keep, n + nslots);
	if (r >= 0 && close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		r = err_sys("mark descriptors close-on-exec");
	return r;
}

/*
 * Enters the jail and starts the guest. The monitor has opened every file that it will use by now,
 * so it no longer needs the file system, which the jail takes away. The threads that serve the
 * devices and run the guest start inside the jail.
 */
static int enter_jail_and_run(struct monitor *m)
{
	const pid_t children[] = {m->share.pid, m->disk.pid, m->engine.pid};
	int proc = m->a->proc;

	fd_close(&proc);
	/*
	 * The monitor goes to the next phase before it enters the jail, so that it does not try to
	 * undo its preparations if it fails in between: even a half-entered jail forbids that.
	 */
	monitor_advance(m, PHASE_BOOTING);
	int r = jail_enter(&m->jail, children, ARRAY_SIZE(children));
	/*
	 * A foreign guest runs only when `start` asks for it. Until then the monitor has only one
	 * thread. That thread loads its system call filter after it has made the other threads.
	 */
	if (foreign_here(m))
		return r;
	spans_ran(m);
	if (r >= 0)
		r = engine_run(&m->engine, &m->jail);
	log_debug("microvm: runs");
	return r < 0 ? r : jail_enter_thread(&m->jail, JAIL_LOOP);
}

/*
 * Raises the limit of open files if the caller has set one that is too small for a monitor. The
 * programs that the monitor starts inherit the limit.
 */
static int raise_files(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) < 0)
		return err_sys("read the limit of open files");
	if (l.rlim_cur >= MONITOR_FILES)
		return 0;
	l.rlim_cur = MONITOR_FILES;
	if (l.rlim_max < MONITOR_FILES)
		l.rlim_max = MONITOR_FILES;
	return setrlimit(RLIMIT_NOFILE, &l) < 0
		       ? err_sys("raise the limit of open files (ulimit -n) to the %d that a "
				 "microVM needs",
				 MONITOR_FILES)
		       : 0;
}

int monitor_start(struct monitor *m)
{
	spans_begin(m);
	int r = close_inherited(m);
	if (r >= 0)
		r = raise_files();
	if (r >= 0)
		r = streams_init(&m->streams);
	m->streams.agent_is_service = foreign_here(m);
	if (r >= 0)
		r = impersonate_signals(&m->signals);
	spans_mark(m, "close descriptors, and take signals", false);
	if (r >= 0)
		r = do_steps(m);
	if (r >= 0 && m->a->plan->terminal)
		r = open_terminal(m);
	if (r >= 0)
		r = connect_console(m);
	if (r >= 0)
		r = offer_stdio(m);
	if (r >= 0)
		r = enter_jail_and_run(m);
	spans_mark(m, "enter the jail, and run the machine", false);
	if (foreign_here(m))
		return r < 0 ? r : foreign_created(m);
	m->boot.deadline = clock_ms() + m->a->machine->boot_timeout_ms;
	return r;
}
