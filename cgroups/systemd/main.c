/* SPDX-License-Identifier: Apache-2.0 */
/*
 * caisson-systemd: makes and changes the systemd scope of one container. caisson starts this
 * program, which reads the request from standard input and writes the reply to standard output
 * (protocol.h).
 */
#include <stdio.h>

#include "cgroups/cg_internal.h"
#include "cgroups/systemd/protocol.h"
#include "cgroups/systemd/systemd.h"

static int read_request(struct strbuf *bytes, const struct systemd_request **ret)
{
	void *q = NULL;
	int r = fd_read_all(STDIN_FILENO, bytes, SYSTEMD_MESSAGE_MAX, "the request");

	if (r >= 0)
		r = pack_read(&systemd_request_type, bytes->s, bytes->len, &q);
	*ret = q;
	return r;
}

static int check_request(const struct systemd_request *q)
{
	bool known = q->op == SYSTEMD_UPDATE || q->op == SYSTEMD_ATTACH;

	if (known && !q->cg.path)
		return err_set(EPROTO, "a request without a cgroup");
	if (q->op == SYSTEMD_START && (!q->cg.slice || !q->opt.id))
		return err_set(EPROTO, "a request to start a scope without a slice or a container");
	if ((q->op == SYSTEMD_START || q->op == SYSTEMD_ATTACH) && q->pid <= 0)
		return err_set(EPROTO, "a request without a process");
	return 0;
}

static int serve(const struct systemd_request *q)
{
	switch (q->op) {
	case SYSTEMD_START:
		return systemd_start(&q->cg, &q->opt, q->has_limits ? &q->limits : NULL, q->pid);
	case SYSTEMD_STOP:
		return systemd_stop(&q->cg);
	case SYSTEMD_UPDATE:
		return systemd_update(&q->cg);
	case SYSTEMD_ATTACH:
		return systemd_attach(&q->cg, q->pid);
	case SYSTEMD_OPS:
		break;
	}
	return err_set(EPROTO, "a request for nothing");
}

static int send_reply(int result)
{
	_cleanup_strbuf_ struct strbuf bytes = {0};
	const struct systemd_reply reply = {
		.error = result < 0 ? -result : 0, .message = result < 0 ? err_msg() : ""};
	int r = pack_write(&systemd_reply_type, &reply, &bytes);

	return r < 0 ? r : fd_write_all(STDOUT_FILENO, bytes.s, bytes.len);
}

/* Prints what the program is for, if a person has started it. */
static int explain(void)
{
	fprintf(stderr, "caisson starts " SYSTEMD_HELPER " for --cgroup-manager systemd. It is no "
			"command for people: see caisson(1).\n");
	return 2;
}

int main(int argc, char **argv)
{
	_cleanup_strbuf_ struct strbuf bytes = {0};
	const struct systemd_request *q;

	if (argc > 1 || isatty(STDIN_FILENO))
		return explain();
	int r = read_request(&bytes, &q);
	if (r >= 0)
		r = check_request(q);
	if (r < 0) {
		fprintf(stderr, "%s\n", err_msg());
		return 1;
	}
	r = log_open(NULL, "text", q->log_level);
	if (r >= 0)
		r = serve(q);
	return send_reply(r) < 0;
}
