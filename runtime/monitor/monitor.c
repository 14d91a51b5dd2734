/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The runtime clones the monitor where it would clone the container's first process: in the
 * container's cgroup and network namespace. The monitor does the MONITOR's steps of the plan and
 * boots the machine. From then on it waits in one loop for these events: signals, which it forwards
 * to the guest's process; messages of the agent in the guest; messages of the runtime, and later of
 * `start`; commands at the control socket; the machine's end. Other threads serve the devices, so
 * that the data of devices and standard streams never pass through this loop. All threads are in
 * the jail (jail/jail.h) before the guest runs.
 *
 * When the guest's process has ended and all its output has been written, the monitor switches the
 * machine off and ends as that process did: with the same exit code or by the same signal. If the
 * machine fails, the monitor reports the reason to the runtime or to `start` if one of these two
 * waits, else it writes the reason to the log. Then it kills itself with SIGKILL, because a
 * container whose kernel fails counts as killed.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "monitor/impersonate.h"
#include "monitor/monitor_internal.h"
#include "ns/channel.h"

/*
 * How long, in ms, the monitor waits for the hypervisor's end before it reports the end of another
 * process of the machine. The wait is needed, because the other process may have ended because of
 * the hypervisor, whose error then tells the reason.
 */
#define GRACE_MS 500

/* --- events for which the monitor waits --- */

static int on_signals(struct monitor *m, bool *ret_child)
{
	struct signalfd_siginfo s;

	while (read(m->signals, &s, sizeof(s)) == sizeof(s)) {
		int sig = (int)s.ssi_signo, r = 0;

		if (sig == SIGCHLD)
			*ret_child = true;
		clock_on_signal(m, sig);
		if (sig == SIGCHLD || sig == SIGPIPE)
			continue;
		if (foreign_here(m)) {
			r = foreign_signal(m, sig);
		} else if (sig == SIGWINCH && m->console >= 0) {
			r = monitor_send_size(m);
		} else if ((m->agent < 0 || template_under_way(m)) &&
			   (sig == SIGTERM || sig == SIGINT)) {
			/*
			 * SIGTERM and SIGINT end the monitor, because the guest has no process yet
			 * that could get the signal.
			 */
			return err_set(
				EINTR, "ended by signal %d before the microVM had booted", sig);
		} else {
			/*
			 * A signal that asks a process to end ends the microVM at once in
			 * PHASE_EXITED, because the container's process has ended, and the monitor
			 * only waits for a reader of its output.
			 */
			if (m->phase == PHASE_EXITED && monitor_is_end(sig))
				monitor_advance(m, PHASE_CUT);
			r = monitor_send_signal(m, 0, sig, false);
		}
		if (r < 0)
			log_debug("signal %d: %s", sig, err_msg());
	}
	return 0;
}

/*
 * Handles the end of a child process. If the file server or the server of vm.image has ended, ends
 * the machine too, because the guest would wait for that server forever.
 */
static int on_child(struct monitor *m)
{
	struct pollfd p = {.fd = m->engine.ended, .events = POLLIN};

	template_reap(m);
	int r = share_check(&m->share);
	if (r >= 0)
		r = disk_server_check(&m->disk, 0);
	if (r >= 0 || m->phase >= PHASE_EXITED || (r == -EPIPE && poll(&p, 1, GRACE_MS) > 0))
		return 0;
	return monitor_last_words(m, r);
}

static int on_agent(struct monitor *m)
{
	struct pollfd p = {.fd = m->engine.ended, .events = POLLIN};

	if (foreign_here(m)) {
		foreign_on_agent(m);
		return 0;
	}
	int r = agent_reader_receive(&m->reader, m->agent);

	/*
	 * The agent's connection was closed, probably because the machine has ended. In that case
	 * the engine reports the machine's end a moment later.
	 */
	if (r == 0) {
		fd_close(&m->agent);
		if (m->phase >= PHASE_EXITED || poll(&p, 1, GRACE_MS) > 0)
			return 0;
		return monitor_last_words(m, err_set(EPIPE, "the guest's init has gone"));
	}
	while (r > 0 || r == -EAGAIN) {
		_cleanup_agent_frame_ struct agent_frame f = {0};
		r = agent_reader_next(&m->reader, &f);
		if (r <= 0)
			return r;
		r = monitor_on_frame(m, &f);
		if (r >= 0)
			r = 1;
	}
	return r;
}

static void on_streams(struct monitor *m)
{
	eventfd_t n;

	(void)eventfd_read(m->streams.changed, &n);
	if (foreign_here(m))
		foreign_take_agent(m);
	else if (m->agent < 0)
		m->agent = streams_take_agent(&m->streams);
}

static int start_guest(struct monitor *m)
{
	return foreign_here(m) ? foreign_start(m) : monitor_send_start(m);
}

/*
 * Handles a message of the runtime, which reports one of three events: the container is recorded
 * and waits for `start`; the program is to be started at once (`run`); or the runtime has ended too
 * early.
 */
static int on_channel(struct monitor *m)
{
	struct channel_msg msg;
	_cleanup_fd_ int fd = -EBADF;

	int r = channel_recv(m->channel, &msg, &fd);
	if (r < 0)
		return r;
	if (r == 0 || msg.type != CHANNEL_REACHED)
		return err_set(EPIPE, "the runtime has ended");
	if (streq(msg.text, "recorded")) {
		fd_close(&m->channel);
		return 0;
	}
	if (!streq(msg.text, "start"))
		return err_set(EPROTO, "unexpected \"%s\" from the runtime", msg.text);
	m->starter = take_fd(&m->channel);
	return start_guest(m);
}

/*
 * Accepts a connection at the start socket. The monitor trusts that the other end is `start`,
 * because only root can reach the socket.
 */
static int on_start(struct monitor *m)
{
	m->starter = accept4(m->start_socket, NULL, NULL, SOCK_CLOEXEC);
	if (m->starter < 0)
		return errno == EINTR || errno == ECONNABORTED
			       ? 0
			       : err_sys("accept the start command");
	fd_close(&m->start_socket);
	return start_guest(m);
}

static int on_engine_end(struct monitor *m)
{
	int r = engine_result(&m->engine);

	if (m->phase >= PHASE_EXITED)
		return 0;
	/* The hypervisor has ended, also if it has failed, so the rest of the output has an end. */
	while (foreign_here(m) && monitor_on_log(m))
		;
	if (r >= 0 && foreign_here(m))
		return foreign_ended(m);
	/*
	 * If caisson-disk, the server of vm.image, has failed, the monitor reports the error of
	 * caisson-disk, because that error says more than -EPIPE, which only says that the server
	 * has ended.
	 */
	if (r == -EPIPE && disk_server_check(&m->disk, GRACE_MS) == -EIO)
		return monitor_last_words(m, -EIO);
	if (r < 0)
		return monitor_name_other(
			m, monitor_last_words(m, err_ctx(r, "the microVM failed")));
	r = err_set(EIO, "the microVM switched itself off");
	if (!m->log_len && m->agent < 0)
		r = err_set(EIO,
			"the microVM switched itself off before its init could say why: its "
			"kernel may lack virtio_mmio or virtio_console, or the modules");
	return monitor_last_words(m, r);
}

/* --- the monitor's event loop --- */

enum { P_SIGNALS, P_STREAMS, P_ENGINE, P_LOG, P_AGENT, P_SEAL, P_CLOCK, P_EVENTS };
enum { P_DISK = P_EVENTS + 1, P_SAVED, P_CHANGED, P_QGA, P_CHANNEL, P_START, P_CONTROL, P_CLIENTS };
enum { P_CONSOLE = P_CLIENTS + CLIENTS_MAX, P_SERVERS = P_CONSOLE + CONSOLE_FDS };
enum { P_COUNT = P_SERVERS + HOTPLUG_MAX };
/* poll(2) refuses more entries than the limit of open files. */
_Static_assert(P_COUNT < MONITOR_FILES, "the monitor cannot poll all descriptors");

static int serve_events(struct monitor *m, struct pollfd *p)
{
	bool child = false;
	int r = 0;

	if (p[P_LOG].revents & ~POLLOUT)
		monitor_on_log(m);
	console_serve(&m->console_io, p + P_CONSOLE);
	console_type(&m->console_io, m->guest_log);
	if (p[P_STREAMS].revents)
		on_streams(m);
	if (p[P_CLOCK].revents)
		clock_changed(m);
	if (p[P_EVENTS].revents)
		r = disk_error_on_engine(m);
	if (r >= 0 && p[P_DISK].revents)
		r = disk_error_on_server(m);
	if (r >= 0 && p[P_AGENT].revents && m->agent == p[P_AGENT].fd)
		r = on_agent(m);
	if (r >= 0 && p[P_SIGNALS].revents)
		r = on_signals(m, &child);
	if (r >= 0 && child)
		r = on_child(m);
	if (r >= 0 && p[P_SEAL].revents)
		r = monitor_on_sealed(m);
	if (r >= 0 && p[P_SAVED].revents && template_under_way(m))
		r = template_on_saved(m);
	else if (r >= 0 && p[P_SAVED].revents)
		checkpoint_on_saved(m);
	if (r >= 0 && p[P_CHANGED].revents) {
		r = template_on_changed(m);
		if (r == 0)
			hotplug_on_changed(m);
	}
	if (r >= 0)
		r = hotplug_serve_servers(m, p + P_SERVERS);
	if (p[P_QGA].revents && m->qga.sock == p[P_QGA].fd)
		qga_serve(&m->qga, p[P_QGA].revents);
	if (r >= 0 && p[P_CHANNEL].revents)
		r = on_channel(m);
	else if (r >= 0 && p[P_START].revents)
		r = on_start(m);
	for (size_t i = 0; r >= 0 && i < CLIENTS_MAX; i++)
		if (p[P_CLIENTS + i].revents && m->clients[i].sock == p[P_CLIENTS + i].fd)
			monitor_on_client(m, &m->clients[i]);
	if (r >= 0 && p[P_CONTROL].revents)
		r = monitor_accept(m);
	m->awaits_output = monitor_send_exits(m);
	/*
	 * The end of the machine is handled last, so that the monitor first reads all messages that
	 * the agent has sent.
	 */
	if (p[P_ENGINE].revents && !(p[P_AGENT].revents && r >= 0))
		r = on_engine_end(m);
	return r;
}

/* Returns the earlier of two deadlines, of which 0 is none. */
static int64_t earlier(int64_t a, int64_t b)
{
	return !a || (b && b < a) ? b : a;
}

/*
 * Does what is due at the deadlines that have passed. *ret_timeout is the time to the next deadline
 * in ms, or -1 if there is none.
 */
static int check_deadlines(struct monitor *m, int *ret_timeout)
{
	const int64_t next = earlier(earlier(m->boot.deadline, m->kill_deadline),
		earlier(earlier(m->hotplug.deadline, m->resize_deadline), m->qga.deadline));

	*ret_timeout = m->awaits_output ? OUTPUT_LOOK_MS : -1;
	if (!next)
		return 0;
	int64_t now = clock_ms();
	if (m->boot.deadline && now >= m->boot.deadline) {
		int r = err_set(ETIMEDOUT,
			"the microVM did not get ready in %u seconds (annotation "
			"io.caisson.vm.boot-timeout)",
			m->a->machine->boot_timeout_ms / 1000);
		return monitor_name_other(m, monitor_last_words(m, r));
	}
	if (m->kill_deadline && now >= m->kill_deadline) {
		log_debug("microvm: not ended by SIGKILL in time, switched off");
		m->status = m->phase >= PHASE_EXITED ? m->status : SIGKILL;
		monitor_advance(m, PHASE_CUT);
		return 0;
	}
	hotplug_check_deadline(m, now);
	disk_size_check_deadline(m, now);
	qga_check_deadline(&m->qga, now);
	if (!m->awaits_output || next - now < OUTPUT_LOOK_MS)
		*ret_timeout = next > now ? (int)(next - now) : 0;
	return 0;
}

static int wait_and_serve(struct monitor *m)
{
	struct pollfd p[P_COUNT];

	int timeout, r = check_deadlines(m, &timeout);
	if (r < 0 || m->phase == PHASE_CUT)
		return r;
	console_poll(&m->console_io, p + P_CONSOLE);
	for (size_t i = 0; i < P_CONSOLE; i++)
		p[i] = (struct pollfd){.events = POLLIN};
	p[P_SIGNALS].fd = m->signals;
	p[P_STREAMS].fd = m->streams.changed;
	/*
	 * Once the machine of a foreign guest has ended, the loop no longer polls the engine, and
	 * only waits until the guest's output is read.
	 */
	p[P_ENGINE].fd = foreign_here(m) && m->phase >= PHASE_EXITED ? -1 : m->engine.ended;
	p[P_LOG].fd = m->guest_log;
	p[P_LOG].events = (short)((console_is_full(&m->console_io) ? 0 : POLLIN) |
				  (m->console_io.input_len ? POLLOUT : 0));
	p[P_EVENTS].fd = m->engine.events;
	p[P_DISK].fd = m->disk.control;
	p[P_AGENT].fd = m->agent;
	p[P_SEAL].fd = m->share.sealing ? m->share.seal : -1;
	p[P_CLOCK].fd = m->clock;
	p[P_SAVED].fd = m->engine.save_done;
	p[P_CHANGED].fd = m->engine.change_done;
	hotplug_poll_servers(m, p + P_SERVERS);
	qga_poll(&m->qga, &p[P_QGA]);
	p[P_CHANNEL].fd = m->channel;
	p[P_START].fd = m->phase >= PHASE_CREATED && m->channel < 0 && m->starter < 0
				? m->start_socket
				: -1;
	p[P_CONTROL].fd = m->control;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		p[P_CLIENTS + i].fd = m->clients[i].sock;
	if (poll(p, ARRAY_SIZE(p), timeout) < 0)
		return errno == EINTR ? 0 : err_sys("wait for events");
	return serve_events(m, p);
}

static int serve_until_end(struct monitor *m)
{
	int r = 0;

	while (r >= 0 && m->phase != PHASE_CUT &&
		!(m->phase == PHASE_EXITED && !streams_has_output(&m->streams, 0) &&
			!console_owes(&m->console_io)))
		r = wait_and_serve(m);
	/* After an error the loop no longer waits until the guest's last output is read. */
	if (r < 0)
		console_finish(&m->console_io, GRACE_MS);
	return r;
}

/* --- the end of the monitor's process --- */

static void clean_up(struct monitor *m)
{
	engine_stop(&m->engine);
	hotplug_release(m);
	fd_close(&m->checkpoint.save.state);
	fd_close(&m->checkpoint.save.memory);
	template_end(m);
	if (disk_server_stop(&m->disk) < 0)
		monitor_tell_failure(m, err_msg());
	share_stop(&m->share);
	streams_release(&m->streams);
	console_release(&m->console_io);
	qga_release(&m->qga);
	for (size_t i = 0; i < m->boot.net.interface_count && i < ENGINE_NICS_MAX; i++) {
		if (m->phase >= PHASE_BOOTING)
			net_tap_forget(&m->boot.taps[i]);
		else if (m->boot.taps[i].queues > 0 && net_tap_close(&m->boot.taps[i]) < 0)
			log_debug("%s", err_msg());
	}
}

_Noreturn static void exit_failed(struct monitor *m, int code)
{
	_cleanup_free_ char *text = strdup(err_msg());
	const char *message = text ? text : "out of memory";

	if (m->starter >= 0 || m->channel >= 0) {
		int sock = m->starter >= 0 ? m->starter : m->channel;
		clean_up(m);
		_exit(channel_send(sock, CHANNEL_FAILED, code, message, -EBADF) < 0 ? 2 : 1);
	}
	monitor_tell_failure(m, message);
	clean_up(m);
	impersonate_exit(SIGKILL);
}

_Noreturn void monitor_run(const struct monitor_args *a)
{
	/*
	 * The struct is static, because it is too large for the stack and a process runs only one
	 * monitor.
	 */
	static struct monitor m;

	m.a = a;
	m.channel = a->channel;
	m.start_socket = a->start_socket;
	m.start_lock = a->start_lock;
	m.control = a->control;
	m.agent = m.starter = m.signals = m.clock = m.console = m.guest_log = -EBADF;
	m.engine = (struct engine)ENGINE_INIT;
	m.share = (struct share)SHARE_INIT;
	m.disk.sock = m.disk.control = -EBADF;
	m.streams.agent = m.streams.changed = m.qga.sock = -EBADF;
	m.template.found.fd = m.template.new.fd = m.template.new.keeper = -EBADF;
	m.template.record.fd = m.template.record.keeper = m.template.pagemap = -EBADF;
	m.checkpoint.save.state = m.checkpoint.save.memory = -EBADF;
	for (size_t i = 0; i < ENGINE_NICS_MAX; i++)
		m.boot.taps[i] = (struct net_tap)NET_TAP_INIT;
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		m.clients[i].sock = -EBADF;
	prctl(PR_SET_NAME, "caisson-vm");
	setsid();
	int r = monitor_start(&m);
	if (r >= 0)
		r = serve_until_end(&m);
	if (r < 0)
		exit_failed(&m, r);
	monitor_send_exits(&m);
	clean_up(&m);
	fd_close(&m.console);
	impersonate_exit(m.status);
}
