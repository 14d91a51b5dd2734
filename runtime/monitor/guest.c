/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor's messages to the guest's agent (monitor_send_...), and its handlers for the agent's
 * messages (on_..., listed in monitor_on_frame()). agent/protocol.h describes each message; the
 * guest's side is guest/serve.c.
 */
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <termios.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "monitor/monitor_internal.h"
#include "netsetup/carry/net_config.h"
#include "ns/channel.h"

int monitor_send_create(struct monitor *m)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	int r = agent_begin(&w, "create");
	if (r < 0)
		return r;
	json_out_u64(&w.json, "process", 0);
	clock_write(&w.json);
	net_config_json(&w.json, "net", &m->boot.net);
	/*
	 * The member "stdio" of the message "create" lists the standard streams that the guest
	 * connects to the host's. The guest opens /dev/null for a stream that is not listed.
	 */
	streams_json(&m->streams, 0, &w.json);
	json_out_array(&w.json, "devices");
	for (size_t i = 0; i < m->engine.late_count; i++) {
		json_out_object(&w.json, NULL);
		json_out_u64(&w.json, "slot", m->engine.late_slots[i]);
		json_out_end_object(&w.json);
	}
	json_out_end_array(&w.json);
	spans_asked(m);
	r = agent_send(&w, m->agent, m->a->orders->s, m->a->orders->len);
	/*
	 * The orders are freed, because the guest has them now, and the monitor would else hold
	 * them as long as the container lives.
	 */
	strbuf_release(m->a->orders);
	return r;
}

static int on_running(struct monitor *m);

int monitor_send_start(struct monitor *m)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	/* No message "start" is sent to a restored machine, because its program runs already. */
	if (m->a->restore)
		return on_running(m);
	int r = agent_begin(&w, "start");
	if (r < 0)
		return r;
	json_out_u64(&w.json, "process", 0);
	return agent_send(&w, m->agent, NULL, 0);
}

int monitor_send_signal(struct monitor *m, uint32_t process, int sig, bool all)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	if (process == 0)
		m->told |= monitor_is_end(sig);
	int r = m->agent < 0 ? err_set(ENOTCONN, "the microVM has not booted yet")
			     : agent_begin(&w, "signal");
	if (r < 0)
		return r;
	json_out_u64(&w.json, "process", process);
	json_out_u64(&w.json, "signal", (uint64_t)sig);
	json_out_bool(&w.json, "all", all);
	return agent_send(&w, m->agent, NULL, 0);
}

int monitor_send_resize(struct monitor *m, uint32_t process, unsigned rows, unsigned columns)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	int r = m->agent < 0 ? err_set(ENOTCONN, "the microVM has not booted yet")
			     : agent_begin(&w, "resize");
	if (r < 0)
		return r;
	json_out_u64(&w.json, "process", process);
	json_out_u64(&w.json, "rows", rows);
	json_out_u64(&w.json, "columns", columns);
	return agent_send(&w, m->agent, NULL, 0);
}

int monitor_send_size(struct monitor *m)
{
	struct winsize w;

	if (m->console < 0 || ioctl(m->console, TIOCGWINSZ, &w) < 0 || !w.ws_col)
		return 0;
	return monitor_send_resize(m, 0, w.ws_row, w.ws_col);
}

static int on_hello(struct monitor *m, const struct agent_frame *f)
{
	uint64_t version;

	if (m->phase >= PHASE_GREETED)
		return err_set(EPROTO, "unexpected \"hello\" from the guest");
	monitor_advance(m, PHASE_GREETED);
	log_debug("microvm: hello");
	spans_hello(m, f);
	if (json_get_u64(f->json, "version", &version) < 0 || version != AGENT_VERSION)
		return err_set(EPROTO,
			"the guest's init is of another version: expected %d, which "
			"comes with this caisson",
			AGENT_VERSION);
	bool suspended = json_get_true(f->json, "suspended");
	int r = m->a->restore ? checkpoint_on_hello(m, suspended) : template_on_hello(m, suspended);
	if (r == 0 && !m->a->restore)
		r = monitor_send_create(m);
	/*
	 * The monitor sends the terminal's size once more, because an engine may have changed the
	 * size while the machine booted.
	 */
	return r < 0 ? r : monitor_send_size(m);
}

static int on_created(struct monitor *m)
{
	log_debug("microvm: created");
	monitor_advance(m, PHASE_CREATED);
	m->boot.deadline = 0;
	int r = channel_report(m->channel, "created");
	template_on_created(m);
	return r;
}

int monitor_reach_created(struct monitor *m)
{
	return m->share.seal >= 0 ? share_seal(&m->share) : on_created(m);
}

int monitor_on_sealed(struct monitor *m)
{
	int r = share_sealed(&m->share);

	spans_mark(m, "make the share of the root read-only", false);
	return r < 0 ? r : on_created(m);
}

/*
 * Handles the guest's message that INIT has reached a barrier of the plan. The monitor reports the
 * barrier to the runtime, which waits for that report.
 */
static int on_reached(struct monitor *m, const struct agent_frame *f)
{
	const char *barrier = json_get_str(f->json, "barrier");

	if (!barrier || m->channel < 0)
		return err_set(EPROTO, "unexpected \"reached\" from the guest");
	spans_mark(m, "wait for INIT", true);
	if (streq(barrier, "created"))
		return monitor_reach_created(m);
	return channel_report(m->channel, barrier);
}

/*
 * Handles the guest's message that the program could not be made or started. The monitor reports
 * the error to the runtime or to `start`, as INIT does in namespace mode, and ends.
 */
static int on_failed(struct monitor *m, const struct agent_frame *f)
{
	int r = agent_failure(f);

	return r < 0 ? r : err_set(EPROTO, "malformed \"failed\" from the guest");
}

static int on_running(struct monitor *m)
{
	if (m->phase < PHASE_CREATED || m->phase == PHASE_RUNNING)
		return err_set(EPROTO, "unexpected \"running\" from the guest");
	log_debug("microvm: running");
	spans_mark(m, "wait for the program to run", true);
	monitor_advance(m, PHASE_RUNNING);
	monitor_end_start(m);
	return 0;
}

static struct client *find_client(struct monitor *m, uint32_t process)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (m->clients[i].sock >= 0 && process && m->clients[i].process == process)
			return &m->clients[i];
	return NULL;
}

static int on_exited(struct monitor *m, uint32_t process, const struct agent_frame *f)
{
	int64_t status;

	if (json_get_i64(f->json, "status", &status) < 0 || status < 0 || status > 0xffff)
		return err_set(EPROTO, "malformed \"exited\" from the guest");
	streams_withdraw(&m->streams, process);
	struct client *c = find_client(m, process);
	if (c) {
		c->ended = true;
		c->status = (int)status;
		streams_mark(&m->streams, process);
		if (c->told)
			c->give_up = clock_ms() + LAST_WORDS_MS;
	}
	if (process == 0) {
		log_debug("microvm: exited");
		monitor_advance(m, PHASE_EXITED);
		m->status = (int)status;
		if (m->told && !m->kill_deadline)
			m->kill_deadline = clock_ms() + LAST_WORDS_MS;
	}
	return 0;
}

/*
 * Forwards a message of the guest about an exec to the exec's proxy. If the proxy has ended, the
 * message is dropped, because no process is left that waits for it.
 */
static void on_exec_frame(struct monitor *m, uint32_t process, const struct agent_frame *f)
{
	struct client *c = find_client(m, process);

	if (!c)
		return;
	client_forward(c, f);
	if (streq(f->type, "failed")) {
		streams_withdraw(&m->streams, process);
		client_close(c);
	}
}

static int on_reply(struct monitor *m, const struct agent_frame *f)
{
	uint64_t id;

	if (json_get_u64(f->json, "id", &id) < 0 || !id)
		return 0;
	int r = template_on_reply(m, id, f);
	if (r != 0 || checkpoint_on_reply(m, id, f) || hotplug_on_reply(m, id, f))
		return r < 0 ? r : 0;
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &m->clients[i];
		if (c->sock < 0 || c->request != id)
			continue;
		c->request = 0;
		client_forward(c, f);
	}
	return 0;
}

/*
 * Tells every watching command that the kernel has killed a process. The message is dropped if the
 * command's socket is full, because a command that does not read must not block the monitor.
 * Nothing is lost by that, because such a command has unread messages of the same kind.
 */
static void on_oom(struct monitor *m, const struct agent_frame *f)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &m->clients[i];
		struct pollfd p = {.fd = c->sock, .events = POLLOUT};
		if (c->sock >= 0 && c->watches && poll(&p, 1, 0) > 0 && p.revents == POLLOUT)
			client_forward(c, f);
	}
}

/*
 * Writes a message of the guest to the host's log. The number of messages is limited, because a
 * hostile guest could fill the host's disk with them.
 */
static void on_log(struct monitor *m, const struct agent_frame *f)
{
	const char *message = json_get_str(f->json, "message") ?: "";
	char line[1024];

	if (m->lines == GUEST_LINES_MAX)
		return;
	str_quote_end(line, sizeof(line), message, strlen(message));
	log_warn("in the guest: %s", line);
	if (++m->lines == GUEST_LINES_MAX)
		log_warn("in the guest: %d lines were written, further ones are dropped",
			GUEST_LINES_MAX);
}

int monitor_on_frame(struct monitor *m, const struct agent_frame *f)
{
	uint32_t process = 0;

	if (streq(f->type, "hello"))
		return on_hello(m, f);
	if (streq(f->type, "log")) {
		on_log(m, f);
		return 0;
	}
	if (streq(f->type, "reply"))
		return on_reply(m, f);
	if (streq(f->type, "resumed"))
		return checkpoint_on_resumed(m);
	if (streq(f->type, "oom")) {
		on_oom(m, f);
		return 0;
	}
	int r = agent_process(f, &process);
	if (r < 0)
		return r;
	if (streq(f->type, "exited"))
		return on_exited(m, process, f);
	if (process > 0) {
		on_exec_frame(m, process, f);
		return 0;
	}
	if (streq(f->type, "reached"))
		return on_reached(m, f);
	if (streq(f->type, "steps"))
		return spans_of_guest(m, f);
	if (streq(f->type, "failed"))
		return on_failed(m, f);
	if (streq(f->type, "running"))
		return on_running(m);
	return err_set(EPROTO, "unknown message \"%s\" from the guest", f->type);
}
