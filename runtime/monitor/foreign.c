/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The life of a machine with a foreign guest: an operating system that starts its own init. It may
 * have an agent of caisson (foreign_agent.c), on which nothing here depends.
 *
 * Theory of operation. The container is "created" once the machine is built, and its CPUs run from
 * `start` on, because the guest has no process of caisson that could wait for `start`. The phases
 * are CREATED, RUNNING and EXITED, and the machine's power-off is what ends the container, with
 * exit code 0. The first signal that asks a process to end goes to the agent, which asks the
 * operating system to power off. Without an agent, and at each further signal, the machine's power
 * button is pressed, to which the guest reacts as its configuration says, and qemu-guest-agent, if
 * it is there, is asked to power off. SIGKILL switches the
 * machine off. Other signals are refused. Signals come from `caisson kill`, and directly from the
 * command `run`, which hands its own signals on. A guest that hangs would keep `run` from ending,
 * so a second signal of the latter kind switches the machine off. `caisson pause` stops the CPUs of
 * the machine, without the guest's knowledge.
 */
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "monitor/console.h"
#include "monitor/monitor_internal.h"
#include "ns/channel.h"

/* SIGRTMIN+3, which podman and docker send to a container whose program is systemd, to stop it */
#define SIG_SYSTEMD_HALT 37
/*
 * how long, in ms, after a signal has pressed the power button a further signal to the monitor does
 * nothing more than that; a terminal or a supervisor can send one signal twice
 */
#define SAME_PRESS_MS 2000

bool foreign_here(const struct monitor *m)
{
	return m->a->machine->foreign;
}

int foreign_created(struct monitor *m)
{
	log_debug("microvm: created");
	monitor_advance(m, PHASE_CREATED);
	return channel_report(m->channel, "created");
}

int foreign_start(struct monitor *m)
{
	int r = engine_run(&m->engine, &m->jail);

	if (r >= 0)
		r = jail_enter_thread(&m->jail, JAIL_LOOP);
	if (r < 0)
		return r;
	log_debug("microvm: running");
	monitor_advance(m, PHASE_RUNNING);
	monitor_end_start(m);
	return 0;
}

static bool presses_power(int sig)
{
	return sig == SIGTERM || sig == SIGINT || sig == SIGHUP || sig == SIGQUIT ||
	       sig == SIGPWR || sig == SIG_SYSTEMD_HALT;
}

static int act_on_signal(struct monitor *m, int sig)
{
	if (sig == 0)
		return 0;
	if (sig == SIGKILL || (m->phase < PHASE_RUNNING && presses_power(sig))) {
		m->status = sig;
		monitor_advance(m, PHASE_CUT);
		return 0;
	}
	if (presses_power(sig)) {
		/*
		 * In PHASE_EXITED the machine is off already, and the monitor only waits until the
		 * console's output is read. A second signal ends that wait.
		 */
		if (m->phase >= PHASE_EXITED)
			monitor_advance(m, PHASE_CUT);
		if (m->phase != PHASE_RUNNING || foreign_shut_down(m) > 0)
			return 0;
		foreign_qga_shut_down(m);
		return engine_press_power(&m->engine);
	}
	return err_set(ENOTSUP,
		"signal %d: the machine runs an operating system of its own, which takes no "
		"signals of the host: expected TERM or INT (its power button) or KILL (power off "
		"at once)",
		sig);
}

int foreign_signal(struct monitor *m, int sig)
{
	if (m->phase == PHASE_RUNNING && presses_power(sig)) {
		const int64_t now = clock_ms();
		if (m->power_pressed && now - m->power_pressed >= SAME_PRESS_MS) {
			log_debug("microvm: a second signal, switched off");
			m->status = sig;
			monitor_advance(m, PHASE_CUT);
			return 0;
		}
		if (!m->power_pressed)
			m->power_pressed = now;
	}
	return act_on_signal(m, sig);
}

int foreign_ended(struct monitor *m)
{
	/*
	 * A guest's end can be a panic, because a kernel that panics resets the machine (panic=-1).
	 * So the output of the console tells whether the kernel has panicked or the guest was
	 * switched off.
	 */
	if (monitor_saw_panic(m))
		return monitor_last_words(m, err_set(EIO, "the kernel of the disk panicked"));
	log_debug("microvm: off");
	monitor_advance(m, PHASE_EXITED);
	m->status = 0;
	return 0;
}

/*
 * Answers the request "address": says whether an agent in the guest runs commands, and with which
 * addresses of the container's network interfaces ssh reaches the guest.
 */
static int reply_address(struct monitor *m, struct client *c)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	int r = agent_begin(&w, "reply");

	if (r < 0)
		return r;
	json_out_i64(&w.json, "errno", 0);
	json_out_str(&w.json, "message", "");
	json_out_bool(&w.json, "agent", m->agent_greeted);
	json_out_bool(&w.json, "guestAgent", foreign_qga_answers(m));
	net_config_json(&w.json, "net", &m->boot.net);
	return agent_send(&w, c->sock, NULL, 0);
}

/*
 * Returns the error for a request that needs an agent in the guest, or that caisson cannot do for a
 * foreign guest at all.
 */
static int refuse(const char *request)
{
	if (!streq(request, "ps") && !streq(request, "exec"))
		return err_set(ENOTSUP,
			"%s: the machine runs an operating system of its own, for which caisson "
			"can't do that",
			request);
	return err_set(ENOTSUP,
		"%s: the machine runs an operating system of its own, in which no agent of caisson "
		"answers (`caisson machine install-agent` puts it into a disk): log in with "
		"`caisson console`, or give `caisson run` an --ssh-key, and then `caisson exec` "
		"goes by ssh",
		request);
}

/*
 * Handles the request "freeze" of `caisson pause` and `caisson resume`: stops the machine's CPUs,
 * or lets them run. The clock of QEMU's machine stands still meanwhile, so an agent of caisson sets
 * it.
 */
static int on_freeze(struct monitor *m, const struct agent_frame *f)
{
	const bool frozen = json_get_true(f->json, "frozen");

	if (m->phase != PHASE_RUNNING)
		return err_set(EINVAL, "the machine does not run: `caisson start` comes before");
	int r = frozen ? engine_pause(&m->engine) : engine_retry(&m->engine);
	if (r < 0)
		return r;
	m->frozen = frozen;
	if (!frozen)
		clock_tell(m);
	return 0;
}

int foreign_check_frozen(const struct monitor *m, const char *request)
{
	if (!m->frozen || streq(request, "freeze") || streq(request, "vnc"))
		return 1;
	return err_set(EBUSY, "the machine is paused: `caisson resume %s` lets it go on", m->a->id);
}

/*
 * Handles a signal or a terminal's size from the proxy of an exec while no agent takes it. It is
 * for the exec's process and never for the machine. The process has ended, and the proxy only waits
 * until its output is read; a signal that asks the process to end limits that wait.
 */
static int request_of_exec(struct client *c, const struct agent_frame *f)
{
	uint64_t sig;

	if (!c->ended)
		return err_set(ESRCH, "container not running");
	if (streq(f->type, "signal") && json_get_u64(f->json, "signal", &sig) >= 0 && sig <= 64 &&
		monitor_is_end((int)sig))
		c->give_up = clock_ms();
	return 0;
}

int foreign_request(struct monitor *m, struct client *c, struct agent_frame *f)
{
	uint64_t sig;
	int r;

	if (c->process && (streq(f->type, "signal") || streq(f->type, "resize")))
		return request_of_exec(c, f);
	if (streq(f->type, "address"))
		return reply_address(m, c);
	if (str_starts(f->type, "qga"))
		return foreign_qga_request(m, c, f);
	if (streq(f->type, "console")) {
		r = f->nfds == 1 ? console_attach(&m->console_io, f->fds[0])
				 : err_set(EPROTO, "console: %u descriptors came: expected one",
					   f->nfds);
		if (r >= 0)
			f->fds[0] = -EBADF;
	} else if (streq(f->type, "freeze")) {
		r = on_freeze(m, f);
	} else if (streq(f->type, "vnc")) {
		r = !m->a->machine->vnc
			    ? err_set(ENOTSUP,
				      "the machine has no screen: give `caisson run` the option "
				      "--vnc")
		    : f->nfds == 1
			    ? engine_add_viewer(&m->engine, f->fds[0])
			    : err_set(EPROTO, "vnc: %u descriptors came: expected one", f->nfds);
	} else if (streq(f->type, "signal")) {
		if (json_get_u64(f->json, "signal", &sig) < 0 || sig > 64)
			return err_set(EPROTO, "signal: expected a number from 0 to 64");
		r = act_on_signal(m, (int)sig);
	} else if (streq(f->type, "watch")) {
		/*
		 * The command waits for messages that never come, because a foreign guest's kernel
		 * does not tell the monitor when memory runs out.
		 */
		return 0;
	} else {
		return refuse(f->type);
	}
	if (r >= 0)
		client_reply(c, 0, "");
	return r;
}
