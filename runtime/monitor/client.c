/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles the monitor's connection to one command. An error of sending is only logged: if the
 * command has ended, poll(2) reports that its end is closed, and the monitor then closes its own
 * end.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "monitor/monitor_internal.h"

void client_close(struct client *c)
{
	fd_close(&c->sock);
	agent_reader_release(&c->reader);
	qga_status_release(&c->qga.status);
	*c = (struct client){.sock = -EBADF};
}

struct client *client_of_change(struct monitor *m, enum client_change change)
{
	for (size_t i = 0; i < CLIENTS_MAX; i++)
		if (m->clients[i].sock >= 0 && m->clients[i].change == change)
			return &m->clients[i];
	return NULL;
}

int monitor_check_running(const struct monitor *m, bool agent)
{
	if (m->phase >= PHASE_CREATED && m->phase < PHASE_EXITED && (m->agent >= 0 || !agent))
		return 0;
	return err_set(ESRCH, "container not running");
}

static void send_frame(struct client *c, struct agent_writer *w, const void *blob, size_t len)
{
	if (agent_send(w, c->sock, blob, len) < 0)
		log_debug("a command's connection: %s", err_msg());
}

void client_forward(struct client *c, const struct agent_frame *f)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	if (agent_begin(&w, f->type) < 0)
		return;
	for (const struct json *j = f->json->first; j; j = j->next)
		if (!streq(j->key, "type"))
			json_out_node(&w.json, j->key, j);
	send_frame(c, &w, f->blob, f->blob_len);
}

static void reply(struct client *c, int code, const char *message, bool detached)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	if (agent_begin(&w, c->process ? "failed" : "reply") < 0)
		return;
	json_out_i64(&w.json, "errno", code);
	json_out_str(&w.json, "message", message);
	if (detached)
		json_out_bool(&w.json, "detached", true);
	send_frame(c, &w, NULL, 0);
}

void client_reply(struct client *c, int code, const char *message)
{
	reply(c, code, message, false);
}

void client_reply_detached(struct client *c, int code, const char *message)
{
	reply(c, code, message, true);
}

static void send_exited(struct client *c)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	if (agent_begin(&w, "exited") < 0)
		return;
	json_out_i64(&w.json, "status", c->status);
	send_frame(c, &w, NULL, 0);
}

bool monitor_send_exits(struct monitor *m)
{
	bool waits = false;

	for (size_t i = 0; i < CLIENTS_MAX; i++) {
		struct client *c = &m->clients[i];

		if (c->sock < 0 || !c->ended)
			continue;
		if (streams_owe(&m->streams, c->process) &&
			!(c->give_up && clock_ms() >= c->give_up)) {
			waits = true;
			continue;
		}
		send_exited(c);
		client_close(c);
	}
	return waits;
}

void monitor_end_start(struct monitor *m)
{
	/*
	 * The lock goes first. `start` ends when its connection is closed, and releases the
	 * container then. Another `start` that has waited for the container would otherwise still
	 * find it "created", fail to connect, and kill it.
	 */
	fd_close(&m->start_lock);
	fd_close(&m->starter);
}
