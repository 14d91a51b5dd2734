/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The connection to qemu-guest-agent in a foreign guest. The agent reads one JSON object from each
 * line that it gets at its virtio-serial port, and answers each request with one line, in order.
 *
 * The agent is hostile, and nobody may be there at all. So one request is under way at a time, its
 * answer has a limit in bytes and in time, and the request is sent only after the agent has
 * answered guest-sync-delimited with the random number of this request. Before that the monitor
 * drops all that comes, such as late answers to requests that it has given up. If no agent answers,
 * the request is never sent, so that an agent which starts an hour later does not do it.
 *
 * The monitor's loop polls the descriptor that qga_poll() describes, and calls qga_serve() and
 * qga_check_deadline(). No function of this file waits.
 */
#pragma once
#include <poll.h>
#include <stdint.h>

#include "base/json.h"

/* how many requests can wait: more than commands can be connected to the monitor */
#define QGA_QUEUE 72
#define QGA_SYNC_MS 20000
#define QGA_ANSWER_MS 60000
/* The longest answer that is no output of a command, in bytes. */
#define QGA_ANSWER_MAX 65536u
/*
 * The longest answer with the output of a command. The agent keeps 16 MiB of standard output and
 * 16 MiB of standard error, and sends them in base64.
 */
#define QGA_STATUS_MAX (45u << 20)

struct qga_request {
	/*
	 * the request, a line of JSON with its line end; if qga_ask() succeeds, the line belongs to
	 * the connection
	 */
	struct strbuf line;
	size_t answer_max; /* QGA_ANSWER_MAX or QGA_STATUS_MAX */
	bool unanswered;   /* the agent answers nothing if the request succeeds */
	uint64_t id;       /* the caller's name for the request */
};

enum qga_state {
	QGA_IDLE,
	QGA_SYNCING, /* the agent has not answered guest-sync-delimited yet */
	QGA_ASKED,   /* the first request of the queue is sent, or is being sent */
};

struct qga {
	/* socket to the agent's port, which does not block; -EBADF: the machine has no such port */
	int sock;
	/*
	 * Tells the caller the end of a request: r is 0 and *answer is the member "return" of the
	 * agent's answer (NULL if the request was unanswered); or r is -errno with a message.
	 */
	void (*done)(void *ctx, uint64_t id, int r, const struct json *answer);
	void *ctx;
	enum qga_state state;
	struct qga_request queue[QGA_QUEUE];
	size_t n;
	int64_t sync;     /* the number in guest-sync-delimited */
	bool delimited;   /* the byte 0xFF before the answer to guest-sync-delimited has come */
	int64_t deadline; /* of the answer (CLOCK_MONOTONIC, ms); 0: no request is under way */
	struct strbuf in; /* the part of a line that has come */
	struct strbuf out;
	size_t sent; /* how many bytes of `out` are sent */
};

/* Makes the connection, which owns the socket. Without a socket (-EBADF) qga_ask() fails. */
void qga_init(struct qga *q, int sock);
/* Closes the connection. Requests that wait are forgotten. Does nothing for a zeroed struct. */
void qga_release(struct qga *q);
/* Adds a request to the queue, and begins it if none is under way. */
int qga_ask(struct qga *q, const struct qga_request *request) must_check;
/*
 * Takes the request out of the queue, without a call of done(), if the agent has not been sent it
 * yet. Otherwise the request goes on.
 */
void qga_withdraw(struct qga *q, uint64_t id);
/* Ends all requests with an error, because the agent has closed its port. */
void qga_closed(struct qga *q);

void qga_poll(const struct qga *q, struct pollfd *ret);
void qga_serve(struct qga *q, short revents);
void qga_check_deadline(struct qga *q, int64_t now);
