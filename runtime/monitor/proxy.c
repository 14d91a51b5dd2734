/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Engines know an exec by a pid: they wait for the process with this pid, kill
 * it, and take its exit code. So a process on the host, the proxy, stands for the process in the
 * guest. The proxy sends its standard streams to the monitor, which connects them to those of the
 * guest's process. From then on the proxy only forwards the signals that it gets, and ends as the
 * guest's process does.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "monitor/control.h"
#include "monitor/guest_steps.h"
#include "monitor/impersonate.h"
#include "monitor/monitor.h"
#include "ns/channel.h"

struct proxy {
	const struct proxy_args *a;
	struct agent_reader reader;
	int channel; /* socket to the runtime; -EBADF from the time when the program runs */
	int signals;
	int console; /* slave side of the proxy's terminal, or -EBADF if the exec has no terminal */
	struct guest_steps steps;
	/*
	 * whether the guest's process has ended; `status` is then its status as waitpid(2) returns
	 * it
	 */
	bool ended;
	int status;
};

static int send_exec(struct proxy *p)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	int fds[3];
	unsigned n = 0;

	int r = agent_begin(&w, "exec");
	if (r < 0)
		return r;
	json_out_array(&w.json, "stdio");
	if (p->console >= 0) {
		fds[n++] = p->console;
		json_out_u64(&w.json, NULL, AGENT_TERMINAL);
	}
	for (int i = 0; i <= 2 && p->console < 0; i++) {
		/*
		 * The proxy does not send a stream that is /dev/null on the host, because the guest
		 * opens its own /dev/null for such a stream.
		 */
		if (fd_is_null(i))
			continue;
		json_out_u64(&w.json, NULL, (uint64_t)i);
		fds[n++] = i;
	}
	json_out_end_array(&w.json);
	p->steps = (struct guest_steps){.plan = p->a->plan, .first = clock_ns()};
	p->steps.asked = p->steps.first;
	const struct iovec blob[2] = {{p->a->orders->s, p->a->orders->len}, {0}};
	return agent_send_fds(&w, p->a->control, blob, fds, n);
}

static int send_number(
	struct proxy *p, const char *type, const char *key, unsigned value, unsigned columns)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	int r = agent_begin(&w, type);
	if (r < 0)
		return r;
	json_out_u64(&w.json, key, value);
	if (columns)
		json_out_u64(&w.json, "columns", columns);
	return agent_send(&w, p->a->control, NULL, 0);
}

static void on_signals(struct proxy *p)
{
	struct signalfd_siginfo s;

	while (read(p->signals, &s, sizeof(s)) == sizeof(s)) {
		struct winsize w;
		int r = 0;

		if (s.ssi_signo == SIGCHLD || s.ssi_signo == SIGPIPE)
			continue;
		if (s.ssi_signo == SIGWINCH && p->console >= 0) {
			if (ioctl(p->console, TIOCGWINSZ, &w) == 0 && w.ws_col)
				r = send_number(p, "resize", "rows", w.ws_row, w.ws_col);
		} else {
			r = send_number(p, "signal", "signal", s.ssi_signo, 0);
		}
		if (r < 0)
			log_debug("%s", err_msg());
	}
}

static int on_frame(struct proxy *p, const struct agent_frame *f)
{
	int64_t n;

	if (streq(f->type, "failed")) {
		int r = agent_failure(f);
		return r < 0 ? r : err_set(EPROTO, "malformed \"failed\" from the guest");
	}
	if (streq(f->type, "running")) {
		fd_close(&p->channel);
		return 0;
	}
	if (streq(f->type, "steps") && p->a->tell_spans)
		return guest_steps_tell(&p->steps, f, p->channel);
	if (!streq(f->type, "exited"))
		return 0;
	if (json_get_i64(f->json, "status", &n) < 0)
		return err_set(EPROTO, "malformed \"exited\" from the monitor");
	p->ended = true;
	p->status = (int)n;
	return 0;
}

static int on_monitor(struct proxy *p)
{
	int r = agent_reader_receive(&p->reader, p->a->control);

	/*
	 * The monitor has closed the connection, because the container has ended and with it the
	 * exec's process. The proxy kills itself by SIGKILL, as the kernel does with the processes
	 * of a pid namespace whose first process has ended.
	 */
	if (r == 0 && p->channel < 0) {
		p->ended = true;
		p->status = SIGKILL;
		return 0;
	}
	if (r == 0)
		return err_set(ESRCH, "container not running");
	while (r > 0) {
		_cleanup_agent_frame_ struct agent_frame f = {0};
		r = agent_reader_next(&p->reader, &f);
		if (r <= 0)
			return r;
		r = on_frame(p, &f);
		if (r >= 0)
			r = 1;
	}
	return r == -EAGAIN ? 0 : r;
}

/*
 * Kills the guest's process, because the runtime was killed before the program ran. If the
 * container is paused, the program would run later, after nobody waits for it any more.
 */
static void on_runtime_end(struct proxy *p)
{
	fd_close(&p->channel);
	if (send_number(p, "signal", "signal", SIGKILL, 0) < 0)
		log_debug("%s", err_msg());
}

static int serve_until_end(struct proxy *p)
{
	const struct spec_process *process = p->a->plan->process;

	int r = impersonate_signals(&p->signals);
	if (r < 0)
		return r;
	setsid();
	if (p->a->plan->terminal)
		r = impersonate_terminal(
			process->console_height, process->console_width, p->channel, &p->console);
	if (r >= 0)
		r = send_exec(p);
	while (r >= 0 && !p->ended) {
		struct pollfd fds[] = {
			{p->signals, POLLIN, 0}, {p->a->control, POLLIN, 0}, {p->channel, 0, 0}};
		if (poll(fds, ARRAY_SIZE(fds), -1) < 0 && errno != EINTR)
			return err_sys("wait for events");
		if (fds[0].revents)
			on_signals(p);
		if (fds[1].revents)
			r = on_monitor(p);
		if (r >= 0 && fds[2].revents && p->channel >= 0)
			on_runtime_end(p);
	}
	return r;
}

_Noreturn void monitor_proxy(const struct proxy_args *a)
{
	struct proxy p = {.a = a, .channel = a->channel, .signals = -EBADF, .console = -EBADF};

	prctl(PR_SET_NAME, "caisson-exec");
	int r = serve_until_end(&p);
	if (r >= 0)
		impersonate_exit(p.status);
	if (p.channel < 0 || channel_send(p.channel, CHANNEL_FAILED, r, err_msg(), -EBADF) < 0)
		_exit(2);
	_exit(1);
}
