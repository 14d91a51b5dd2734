/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qemu-guest-agent in a foreign guest: a service that many cloud images have. It runs commands for
 * `caisson exec` and `caisson ps` if caisson's own agent is not in the guest, and powers the
 * machine off.
 *
 * Theory of operation. The command drives: it asks the monitor to start a process, then again and
 * again for the process's status, and at last for the output, piece by piece. So the monitor writes
 * no more to a command at a time than the socket holds, and a command that does not read stops
 * nobody. The monitor, which is in the jail, makes the requests to the agent and reads the agent's
 * answers. A command can ask only for the process that it has started itself. If the command ends
 * before the agent was sent its request, the agent is never sent it.
 *
 * Whether an agent is there is known before it is asked, because the engine sees whether a program
 * of the guest has opened the agent's port.
 */
#include "base/log.h"
#include "monitor/monitor_internal.h"

/* the largest piece of output that a command gets at once, in bytes */
#define PIECE 65536u

bool foreign_qga_answers(const struct monitor *m)
{
	return m->phase == PHASE_RUNNING && m->qga.sock >= 0 &&
	       engine_guest_agent_is_open(&m->engine);
}

static int begin_reply(struct agent_writer *w)
{
	int r = agent_begin(w, "reply");

	if (r < 0)
		return r;
	json_out_i64(&w->json, "errno", 0);
	json_out_str(&w->json, "message", "");
	return 0;
}

static int reply_info(const struct client *c, const struct json *answer)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	struct qga_info info;
	int r = qga_read_info(answer, &info);

	if (r >= 0)
		r = begin_reply(&w);
	if (r < 0)
		return r;
	json_out_bool(&w.json, "exec", info.exec);
	json_out_str(&w.json, "version", info.version);
	return agent_send(&w, c->sock, NULL, 0);
}

static int reply_exec(struct client *c, const struct json *answer)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	int r = qga_read_exec(answer, &c->qga.pid);

	if (r >= 0)
		r = begin_reply(&w);
	if (r < 0)
		return r;
	json_out_i64(&w.json, "pid", c->qga.pid);
	return agent_send(&w, c->sock, NULL, 0);
}

static int reply_status(struct client *c, const struct json *answer)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	struct qga_status *s = &c->qga.status;
	int r = qga_read_status(answer, s);

	/* The output is another one now, and may be shorter than what the command has taken. */
	c->qga.taken = 0;
	if (r >= 0)
		r = begin_reply(&w);
	if (r < 0)
		return r;
	json_out_bool(&w.json, "exited", s->exited);
	json_out_i64(&w.json, "status", s->status);
	json_out_bool(&w.json, "outTruncated", s->out_truncated);
	json_out_bool(&w.json, "errTruncated", s->err_truncated);
	return agent_send(&w, c->sock, NULL, 0);
}

/* Sends the command the next piece of the output, or an empty one behind the end. */
static int reply_output(struct client *c)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	struct qga_status *s = &c->qga.status;
	const bool err = c->qga.taken >= s->out.len;
	const struct strbuf *from = err ? &s->err : &s->out;
	const size_t at = c->qga.taken - (err ? s->out.len : 0);
	size_t len = from->len - at;
	int r = begin_reply(&w);

	if (r < 0)
		return r;
	if (len > PIECE)
		len = PIECE;
	json_out_u64(&w.json, "stream", err ? AGENT_STDERR : AGENT_STDOUT);
	c->qga.taken += len;
	return agent_send(&w, c->sock, strbuf_str(from) + at, len);
}

/* Handles the end of a request to the agent. The command that has made it may have ended. */
static void on_done(void *ctx, uint64_t id, int r, const struct json *answer)
{
	struct monitor *m = ctx;

	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &m->clients[i];
		if (c->sock < 0 || c->qga.request != id)
			continue;
		c->qga.request = 0;
		if (r >= 0)
			r = c->qga.kind == QGA_INFO   ? reply_info(c, answer)
			    : c->qga.kind == QGA_EXEC ? reply_exec(c, answer)
						      : reply_status(c, answer);
		if (r < 0)
			client_reply(c, -r, err_msg());
		return;
	}
	if (r < 0)
		log_debug("%s", err_msg());
}

void foreign_qga_open(struct monitor *m, int sock)
{
	qga_init(&m->qga, sock);
	m->qga.done = on_done;
	m->qga.ctx = m;
}

void foreign_qga_on_port(struct monitor *m)
{
	if (!engine_guest_agent_is_open(&m->engine))
		qga_closed(&m->qga);
}

/* Makes the line of the request of the kind c->qga.kind. */
static int write_request(const struct client *c, const struct agent_frame *f, struct strbuf *ret)
{
	const struct qga_command command = {.args = json_get(f->json, "args"),
		.env = json_get(f->json, "env"),
		.input = f->blob,
		.input_len = f->blob_len,
		.capture = json_get_true(f->json, "capture")};

	if (c->qga.kind == QGA_INFO)
		return qga_write_info(ret);
	if (c->qga.kind == QGA_EXEC)
		return qga_write_exec(&command, ret);
	return qga_write_status(c->qga.pid, ret);
}

static int ask(struct monitor *m, struct client *c, const struct agent_frame *f)
{
	struct qga_request q = {.id = ++m->next_request,
		.answer_max = c->qga.kind == QGA_STATUS ? QGA_STATUS_MAX : QGA_ANSWER_MAX};

	int r = write_request(c, f, &q.line);
	if (r >= 0) {
		/* The request may end at once, by a call of on_done(). */
		c->qga.request = q.id;
		r = qga_ask(&m->qga, &q);
	}
	if (r < 0) {
		c->qga.request = 0;
		strbuf_release(&q.line);
	}
	return r;
}

int foreign_qga_request(struct monitor *m, struct client *c, const struct agent_frame *f)
{
	static const struct {
		const char *type;
		enum qga_kind kind;
	} kinds[] = {{"qgainfo", QGA_INFO}, {"qgaexec", QGA_EXEC}, {"qgastatus", QGA_STATUS}};

	if (c->qga.request)
		return err_set(EPROTO, "%s: this connection waits for a reply already", f->type);
	if (streq(f->type, "qgaoutput"))
		return reply_output(c);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (!streq(f->type, kinds[i].type))
			continue;
		c->qga.kind = kinds[i].kind;
		if ((c->qga.kind == QGA_EXEC) != !c->qga.pid && c->qga.kind != QGA_INFO)
			return err_set(
				EPROTO, "%s: expected one qgaexec, and then qgastatus", f->type);
		if (!foreign_qga_answers(m))
			return err_set(ENOTCONN, "no qemu-guest-agent answers in the machine");
		return ask(m, c, f);
	}
	return err_set(EPROTO, "unknown request \"%s\"", f->type);
}

void foreign_qga_shut_down(struct monitor *m)
{
	struct qga_request q = {
		.id = ++m->next_request, .answer_max = QGA_ANSWER_MAX, .unanswered = true};

	if (m->qga_told || !foreign_qga_answers(m))
		return;
	m->qga_told = true;
	int r = qga_write_shutdown(&q.line);
	if (r >= 0)
		r = qga_ask(&m->qga, &q);
	if (r >= 0)
		return;
	strbuf_release(&q.line);
	log_debug("%s", err_msg());
}
