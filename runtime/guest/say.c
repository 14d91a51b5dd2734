/* SPDX-License-Identifier: Apache-2.0 */
/* Sends messages from the agent to the monitor. */
#include <stdarg.h>
#include <stdio.h>

#include "base/fd.h"
#include "guest/guest.h"

void guest_fail(struct guest *g, int r)
{
	if (!g->failure)
		g->failure = r;
	g->stop = true;
}

void guest_send(struct guest *g, struct agent_writer *w)
{
	/*
	 * While the machine is suspended, the agent sends no message, because a snapshot saves no
	 * connection by which the message could arrive.
	 */
	int r = g->suspended ? 0 : agent_send(w, g->control, NULL, 0);

	if (r < 0)
		guest_fail(g, r);
}

void guest_send_bytes(struct guest *g, const void *frame, size_t len)
{
	int r = fd_write_all(g->control, frame, len);

	if (r < 0)
		guest_fail(g, err_set(-r, "write to the monitor: %s", strerror(-r)));
}

void guest_say_failed(struct guest *g, uint32_t process, int code, const char *message)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	int r = agent_begin(&w, "failed");
	if (r < 0)
		return guest_fail(g, r);
	json_out_u64(&w.json, "process", process);
	json_out_i64(&w.json, "errno", code);
	json_out_str(&w.json, "message", message);
	guest_send(g, &w);
}

void guest_say_reply(struct guest *g, uint64_t id, int code, const char *message)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	if (agent_begin(&w, "reply") < 0)
		return;
	json_out_u64(&w.json, "id", id);
	json_out_i64(&w.json, "errno", code);
	json_out_str(&w.json, "message", message);
	guest_send(g, &w);
}

void guest_log(struct guest *g, const char *fmt, ...)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};
	char text[ERR_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	int r = agent_begin(&w, "log");
	if (r < 0)
		return guest_fail(g, r);
	json_out_str(&w.json, "message", text);
	guest_send(g, &w);
}
