/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's event loop: calls the handler for each message of the monitor and each event of the
 * kernel.
 */
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <time.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "guest/guest.h"

static void on_stop(struct guest *g, const struct agent_frame *f)
{
	/* The agent of an operating system goes on until the init ends it by SIGTERM. */
	if (g->config->service)
		service_power_off(g);
	else
		g->stop = true;
}

static void handle_message(struct guest *g, const struct agent_frame *f)
{
	static const struct {
		const char *type;
		void (*handle)(struct guest *g, const struct agent_frame *f);
		bool of_service; /* an agent without a container handles the message too */
	} handlers[] = {
		{"create", process_create},
		{"start", process_start},
		{"exec", process_exec, true},
		{"signal", guest_signal, true},
		{"resize", process_resize, true},
		{"freeze", guest_freeze},
		{"ps", guest_ps, true},
		{"stats", guest_stats},
		{"update", guest_update},
		{"cpus", guest_set_cpus},
		{"attach", guest_attach},
		{"detach", guest_detach},
		{"clock", guest_set_clock, true},
		{"suspend", guest_suspend},
		{"resume", guest_resume},
		{"stop", on_stop, true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(handlers); i++)
		if (streq(f->type, handlers[i].type) &&
			(handlers[i].of_service || !g->config->service))
			return handlers[i].handle(g, f);
	guest_log(g, "the agent of the guest does not know the message \"%s\"", f->type);
}

static void on_control(struct watch *w, uint32_t events)
{
	struct guest *g = (struct guest *)((char *)w - offsetof(struct guest, control_watch));
	int r = agent_reader_receive(&g->reader, g->control);

	if (r == -EAGAIN)
		return;
	if (r <= 0 && g->suspended && g->config->reconnect) {
		r = guest_reconnect(g);
		if (r < 0)
			guest_fail(g, r);
		return;
	}
	if (r == 0)
		r = err_set(ECONNRESET, "the monitor closed the connection");
	while (r > 0 && !g->stop) {
		_cleanup_agent_frame_ struct agent_frame f = {0};
		r = agent_reader_next(&g->reader, &f);
		if (r > 0)
			handle_message(g, &f);
	}
	if (r < 0)
		guest_fail(g, r);
}

static void on_signal(struct watch *w, uint32_t events)
{
	struct guest *g = (struct guest *)((char *)w - offsetof(struct guest, signal_watch));
	struct signalfd_siginfo info;

	/*
	 * All children that have ended are reaped, because one SIGCHLD may stand for several: the
	 * agent's own children, and orphans that process 1 adopted.
	 */
	while (read(g->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		g->child_ended |= info.ssi_signo == SIGCHLD;
		g->stop |= info.ssi_signo == SIGTERM;
	}
}

int guest_say_hello(struct guest *g)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	struct utsname u;

	if (uname(&u) < 0)
		return err_sys("uname");
	int r = agent_begin(&w, "hello");
	if (r < 0)
		return r;
	json_out_u64(&w.json, "version", AGENT_VERSION);
	json_out_str(&w.json, "kernel", u.release);
	json_out_u64(&w.json, "clock", clock_ns());
	json_out_bool(&w.json, "suspended", g->suspended);
	return agent_send(&w, g->control, NULL, 0);
}

static int open_signals(struct guest *g)
{
	sigset_t all, child;

	sigfillset(&all);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	/* The init of the operating system ends its services by SIGTERM. */
	if (g->config->service)
		sigaddset(&child, SIGTERM);
	if (sigprocmask(SIG_SETMASK, &all, NULL) < 0)
		return err_sys("block signals");
	g->signals = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	if (g->signals < 0)
		return err_sys("make a signalfd");
	g->signal_watch.ready = on_signal;
	return loop_watch(&g->loop, &g->signal_watch, g->signals, EPOLLIN);
}

static int start_agent(struct guest *g)
{
	int r = guest_prepare_dirs(g->config);

	if (r >= 0)
		r = loop_open(&g->loop);
	if (r >= 0)
		r = open_signals(g);
	if (r >= 0 && g->config->service)
		r = service_adopt_orphans();
	if (r >= 0)
		r = g->control = g->config->connect(
			g->config->data, g->config->service ? AGENT_SERVICE_PORT : AGENT_PORT);
	if (r >= 0)
		r = guest_say_hello(g);
	g->control_watch.ready = on_control;
	return r < 0 ? r : loop_watch(&g->loop, &g->control_watch, g->control, EPOLLIN);
}

int guest_serve(const struct guest_config *config)
{
	struct guest g = {.config = config,
		.loop.epoll = -EBADF,
		.control = -EBADF,
		.signals = -EBADF,
		.events.fd = -EBADF};
	int r = start_agent(&g);

	if (r < 0)
		guest_fail(&g, r);
	while (!g.stop) {
		if (g.suspended) {
			r = loop_wait_once(&g.loop, -1);
			if (r < 0)
				guest_fail(&g, r);
			continue;
		}
		processes_reap(&g);
		int timeout = processes_settle(&g), jobs = jobs_settle(&g);
		if (jobs >= 0 && (timeout < 0 || jobs < timeout))
			timeout = jobs;
		r = g.stop ? 0 : loop_wait_once(&g.loop, timeout);
		if (r < 0)
			guest_fail(&g, r);
	}
	processes_release(&g);
	jobs_release(&g);
	if (!config->service)
		sync();
	guest_unmount_share(&g);
	agent_reader_release(&g.reader);
	fd_close(&g.control);
	fd_close(&g.signals);
	cg_events_close(&g.events);
	fd_close(&g.loop.epoll);
	arena_release(&g.arena);
	return g.failure;
}
