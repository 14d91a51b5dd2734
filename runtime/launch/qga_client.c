/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/qga_client.h"

#include <time.h>

#include "agent/agent.h"
#include "base/fd.h"
#include "monitor/control.h"

/*
 * How long, in ms, the monitor may take to answer: the monitor gives up a request long before, but
 * requests of other commands may be in front of it.
 */
#define ANSWER_MS 3600000
/* the shortest and the longest time, in ms, between two looks at whether the program has ended */
#define LOOK_MIN_MS 5u
#define LOOK_MAX_MS 500u

/* Sends a request without members, and waits for the reply. */
static int ask(int sock, const char *what, struct agent_frame *ret)
{
	_cleanup_agent_writer_ struct agent_writer w = {0};

	int r = agent_begin(&w, what);
	return r < 0 ? r : control_call(sock, &w, NULL, ANSWER_MS, ret);
}

int qga_check(struct container *c)
{
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	_cleanup_fd_ int sock = control_connect(c->dir);

	int r = sock < 0 ? sock : ask(sock, "qgainfo", &reply);
	if (r < 0 || json_get_true(reply.json, "exec"))
		return r;
	const char *version = json_get_str(reply.json, "version");
	return err_set(ENOTSUP,
		"qemu-guest-agent %s in the machine runs no commands, because its configuration "
		"disables guest-exec (allow-rpcs or block-rpcs in /etc/qemu/qemu-ga.conf; in "
		"Red Hat's systems /etc/sysconfig/qemu-ga)",
		version ? version : "?");
}

static void write_list(struct json_out *o, const char *key, const struct spec_strings *list)
{
	json_out_array(o, key);
	for (size_t i = 0; i < list->n; i++)
		json_out_str(o, NULL, list->v[i]);
	json_out_end_array(o);
}

static int start_program(int sock, const struct qga_program *p, struct qga_end *ret)
{
	_cleanup_agent_frame_ struct agent_frame reply = {0};
	_cleanup_agent_writer_ struct agent_writer w = {0};

	int r = agent_begin(&w, "qgaexec");
	if (r < 0)
		return r;
	write_list(&w.json, "args", &p->args);
	write_list(&w.json, "env", &p->env);
	json_out_bool(&w.json, "capture", p->output != NULL);
	r = control_call(sock, &w, p->input, ANSWER_MS, &reply);
	if (r < 0)
		return r;
	return json_get_i64(reply.json, "pid", &ret->pid) < 0
		       ? err_set(EPROTO, "malformed reply from the monitor")
		       : 0;
}

/* Asks again and again whether the program has ended, first soon and then at longer intervals. */
static int await_end(int sock, struct qga_end *ret)
{
	unsigned pause = LOOK_MIN_MS;

	for (;;) {
		_cleanup_agent_frame_ struct agent_frame reply = {0};
		const struct timespec t = {
			.tv_sec = pause / 1000, .tv_nsec = (long)(pause % 1000) * 1000000};
		int64_t status;
		int r = ask(sock, "qgastatus", &reply);
		if (r < 0)
			return r;
		if (json_get_true(reply.json, "exited")) {
			if (json_get_i64(reply.json, "status", &status) < 0)
				return err_set(EPROTO, "malformed reply from the monitor");
			ret->status = (int)status;
			ret->truncated = json_get_true(reply.json, "outTruncated")   ? "output"
					 : json_get_true(reply.json, "errTruncated") ? "error"
										     : NULL;
			return 0;
		}
		nanosleep(&t, NULL);
		pause = pause * 2 < LOOK_MAX_MS ? pause * 2 : LOOK_MAX_MS;
	}
}

static int take_output(int sock, const struct qga_program *p)
{
	for (;;) {
		_cleanup_agent_frame_ struct agent_frame reply = {0};
		uint64_t stream;
		int r = ask(sock, "qgaoutput", &reply);
		if (r < 0 || !reply.blob_len)
			return r;
		if (json_get_u64(reply.json, "stream", &stream) < 0 || stream > STDERR_FILENO)
			return err_set(EPROTO, "malformed reply from the monitor");
		r = p->output(p->data, (int)stream, reply.blob, reply.blob_len);
		if (r < 0)
			return r;
	}
}

int qga_run(struct container *c, const struct qga_program *p, struct qga_end *ret)
{
	_cleanup_fd_ int sock = control_connect(c->dir);

	*ret = (struct qga_end){0};
	int r = sock < 0 ? sock : start_program(sock, p, ret);
	if (r < 0 || !p->output)
		return r;
	r = await_end(sock, ret);
	return r < 0 ? r : take_output(sock, p);
}
