/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent of caisson in a foreign guest: a service of the guest's operating system, which
 * `caisson machine install-agent` has put into the disk.
 *
 * Theory of operation. The machine does not depend on the agent. The machine runs before the agent
 * connects, after the agent has ended, and without any agent. So an error of the agent never ends
 * the machine, but only the connection: the monitor closes it, ends the requests and the execs that
 * are under way, and waits until an agent connects. A new connection takes the place of the old
 * one, because the guest's init may start a new agent before the old connection is closed.
 *
 * The agent is as hostile as the disk that it comes from. From it the monitor takes only answers to
 * requests of commands and messages about execs, and no message about the container's own process.
 */
#include "base/fd.h"
#include "base/log.h"
#include "monitor/monitor_internal.h"

#define LOST "the agent in the machine has ended its connection: try again"

/*
 * Ends all that waits for an answer of the agent. The proxy of an exec ends as if its process had
 * been killed, because nothing is known of the process any more.
 */
static void end_requests(struct monitor *m)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &m->clients[i];
		if (c->sock < 0 || c->ended || !(c->process || c->request))
			continue;
		if (c->process)
			streams_withdraw(&m->streams, c->process);
		else
			client_reply(c, ECONNRESET, LOST);
		client_close(c);
	}
}

static void lose_agent(struct monitor *m)
{
	log_debug("microvm: the agent has gone");
	fd_close(&m->agent);
	agent_reader_release(&m->reader);
	m->reader = (struct agent_reader){0};
	m->agent_greeted = false;
	end_requests(m);
}

void foreign_take_agent(struct monitor *m)
{
	int fd = streams_take_agent(&m->streams);

	if (fd < 0)
		return;
	if (m->agent >= 0)
		lose_agent(m);
	m->agent = fd;
}

static int on_hello(struct monitor *m, const struct agent_frame *f)
{
	uint64_t version;

	if (m->agent_greeted)
		return err_set(EPROTO, "unexpected \"hello\"");
	if (json_get_u64(f->json, "version", &version) < 0 || version != AGENT_VERSION)
		return err_set(EPROTO,
			"it is of another version, expected %d: `caisson machine install-agent` "
			"puts the one of this caisson into the disk",
			AGENT_VERSION);
	m->agent_greeted = true;
	log_debug("microvm: hello");
	return 0;
}

static int on_frame(struct monitor *m, const struct agent_frame *f)
{
	static const char *const of_execs[] = {"running", "failed", "exited"};
	uint32_t process;

	if (streq(f->type, "hello"))
		return on_hello(m, f);
	if (!m->agent_greeted)
		return err_set(EPROTO, "found \"%s\", expected \"hello\"", f->type);
	if (streq(f->type, "log") || streq(f->type, "reply"))
		return monitor_on_frame(m, f);
	for (size_t i = 0; i < ARRAY_SIZE(of_execs); i++) {
		if (!streq(f->type, of_execs[i]))
			continue;
		int r = agent_process(f, &process);
		if (r < 0)
			return r;
		return process ? monitor_on_frame(m, f)
			       : err_set(EPROTO, "\"%s\" of process 0: expected an exec's",
					 f->type);
	}
	return err_set(EPROTO, "unknown message \"%s\"", f->type);
}

void foreign_on_agent(struct monitor *m)
{
	int r = agent_reader_receive(&m->reader, m->agent);
	const bool ended = r == 0;

	while (r > 0) {
		_cleanup_agent_frame_ struct agent_frame f = {0};
		r = agent_reader_next(&m->reader, &f);
		if (r > 0 && (r = on_frame(m, &f)) >= 0)
			r = 1;
	}
	if (r < 0 && r != -EAGAIN && m->lines < GUEST_LINES_MAX) {
		m->lines++;
		log_warn("the agent in the machine: %s", err_msg());
	}
	if (ended || (r < 0 && r != -EAGAIN))
		lose_agent(m);
}

bool foreign_agent_answers(
	const struct monitor *m, const struct client *c, const struct agent_frame *f)
{
	if (!m->agent_greeted || m->phase != PHASE_RUNNING)
		return false;
	return streq(f->type, "exec") || streq(f->type, "ps") || streq(f->type, "resize") ||
	       (c->process && streq(f->type, "signal"));
}

int foreign_shut_down(struct monitor *m)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	/*
	 * Only the first signal goes to an agent. At a further one the power button is pressed,
	 * even if another agent has connected meanwhile, because the agents of a hostile or broken
	 * guest may do nothing.
	 */
	if (!m->agent_greeted || m->told)
		return 0;
	m->told = true;
	int r = agent_begin(&w, "stop");
	if (r >= 0)
		r = agent_send(&w, m->agent, NULL, 0);
	if (r >= 0)
		return 1;
	log_debug("%s", err_msg());
	lose_agent(m);
	return 0;
}
