/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor/qga.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"

#define READ_SIZE 65536u
/* the longest answer to guest-sync-delimited, in bytes */
#define SYNC_MAX 256u
/*
 * The most JSON values that an answer can have. The one with the most is that to guest-info, which
 * names about 60 commands with three members each.
 */
#define VALUES_MAX 4096u
#define DELIMITER 0xff
#define AGENT "qemu-guest-agent in the machine"

void qga_init(struct qga *q, int sock)
{
	*q = (struct qga){.sock = sock};
}

void qga_release(struct qga *q)
{
	for (size_t i = 0; i < q->n; i++)
		strbuf_release(&q->queue[i].line);
	strbuf_release(&q->in);
	strbuf_release(&q->out);
	fd_close(&q->sock);
	*q = (struct qga){.sock = -EBADF};
}

/* Ends what is under way for the first request of the queue. */
static void become_idle(struct qga *q)
{
	q->state = QGA_IDLE;
	q->deadline = 0;
	q->sent = 0;
	strbuf_release(&q->in);
	strbuf_release(&q->out);
}

/* Takes the first request out of the queue, and tells the caller how it has ended. */
static void end_first(struct qga *q, int r, const struct json *answer)
{
	const uint64_t id = q->queue[0].id;

	become_idle(q);
	strbuf_release(&q->queue[0].line);
	memmove(q->queue, q->queue + 1, --q->n * sizeof(q->queue[0]));
	q->done(q->ctx, id, r, answer);
}

/* Ends all requests with the current error message. */
static void end_all(struct qga *q, int r)
{
	char why[ERR_MAX];

	snprintf(why, sizeof(why), "%s", err_msg());
	while (q->n > 0)
		end_first(q, err_set(-r, "%s", why), NULL);
	become_idle(q);
}

static void send_some(struct qga *q)
{
	while (q->sent < q->out.len) {
		ssize_t n = write(q->sock, q->out.s + q->sent, q->out.len - q->sent);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			end_all(q, err_sys("send " AGENT " a request"));
			return;
		}
		q->sent += (size_t)n;
	}
	if (q->state == QGA_ASKED && q->queue[0].unanswered)
		end_first(q, 0, NULL);
}

/* Begins the first request of the queue: asks the agent to answer with a random number. */
static void begin_next(struct qga *q)
{
	uint32_t number;

	while (getrandom(&number, sizeof(number), 0) != sizeof(number))
		;
	q->state = QGA_SYNCING;
	q->delimited = false;
	q->sync = number;
	q->deadline = clock_ms() + QGA_SYNC_MS;
	/* The first byte makes the agent forget a request of which only a part has come before. */
	int r = strbuf_addf(&q->out,
		"%c{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":%" PRId64 "}}\n",
		DELIMITER, q->sync);
	if (r < 0)
		end_all(q, r);
	else
		send_some(q);
}

int qga_ask(struct qga *q, const struct qga_request *request)
{
	if (q->sock < 0)
		return err_set(ENOTCONN, "the machine has no port for qemu-guest-agent");
	if (q->n == QGA_QUEUE)
		return err_set(EBUSY, AGENT " has %d requests to answer: try again", QGA_QUEUE);
	q->queue[q->n++] = *request;
	if (q->state == QGA_IDLE)
		begin_next(q);
	return 0;
}

void qga_withdraw(struct qga *q, uint64_t id)
{
	size_t i = 0;

	while (i < q->n && q->queue[i].id != id)
		i++;
	if (i == q->n || (i == 0 && q->state == QGA_ASKED))
		return;
	strbuf_release(&q->queue[i].line);
	memmove(q->queue + i, q->queue + i + 1, (--q->n - i) * sizeof(q->queue[0]));
	/* What the agent is asked now, guest-sync-delimited, is the same for the next request. */
	if (q->n == 0)
		become_idle(q);
}

void qga_closed(struct qga *q)
{
	if (q->n > 0)
		end_all(q, err_set(ECONNRESET,
				   AGENT " has ended: it is not known whether it did the request"));
}

/*
 * Reads a line that may be the answer to guest-sync-delimited. If it is, the request itself is
 * sent. Otherwise the line is the answer to an earlier guest-sync-delimited, or hostile.
 */
static void on_sync_line(struct qga *q, size_t len)
{
	_cleanup_arena_ struct arena a = {0};
	struct json *answer;
	int64_t number;

	int r = json_parse(&a, q->in.s, len, "the answer of qemu-guest-agent", &answer);
	if (r < 0 || json_get_i64(answer, "return", &number) < 0 || number != q->sync) {
		err_clear();
		q->delimited = false;
		return;
	}
	strbuf_reset(&q->in);
	strbuf_release(&q->out);
	q->out = q->queue[0].line;
	q->queue[0].line = (struct strbuf){0};
	q->sent = 0;
	q->state = QGA_ASKED;
	q->deadline = clock_ms() + QGA_ANSWER_MS;
	send_some(q);
}

/*
 * Refuses an answer with too many values. A long answer is one with long strings. If the values of
 * one were many, the parser would take seconds, in which the monitor serves nobody, and 25 times
 * the answer's length in memory. A character of a string may count as a value too.
 */
static int check_values(const char *text, size_t len)
{
	unsigned n = 0;

	for (size_t i = 0; i < len && n <= VALUES_MAX; i++)
		n += text[i] == ',' || text[i] == '[' || text[i] == '{';
	return n > VALUES_MAX
		       ? err_set(EMSGSIZE, AGENT ": its answer has more than %u values", VALUES_MAX)
		       : 0;
}

static void on_answer(struct qga *q, size_t len)
{
	_cleanup_arena_ struct arena a = {0};
	struct json *message;

	int r = check_values(q->in.s, len);
	if (r >= 0)
		r = json_parse(&a, q->in.s, len, "the answer of " AGENT, &message);
	const struct json *answer = r < 0 ? NULL : json_get(message, "return");
	const struct json *error = r < 0 ? NULL : json_get(message, "error");
	const char *text = json_get_str(error, "desc");

	if (error)
		r = err_set(EREMOTEIO, AGENT ": %.1000s", text ? text : "it failed");
	else if (r >= 0 && !answer)
		r = err_set(EPROTO, AGENT ": its answer has neither \"return\" nor \"error\"");
	end_first(q, r, r < 0 ? NULL : answer);
}

/* Drops what stands before the answer to guest-sync-delimited in q->in. */
static void find_delimiter(struct qga *q)
{
	const char *last = q->in.len ? memrchr(q->in.s, DELIMITER, q->in.len) : NULL;

	if (last) {
		q->in.len -= (size_t)(last + 1 - q->in.s);
		memmove(q->in.s, last + 1, q->in.len);
		q->delimited = true;
	} else if (!q->delimited) {
		q->in.len = 0;
	}
}

/* Uses the bytes that have come; `from` of them were there before. */
static void use_bytes(struct qga *q, size_t from)
{
	const bool syncs = q->state == QGA_SYNCING;
	const size_t max = syncs ? SYNC_MAX : q->queue[0].answer_max;

	if (syncs) {
		find_delimiter(q);
		from = 0;
	}
	const char *end = q->in.len > from ? memchr(q->in.s + from, '\n', q->in.len - from) : NULL;
	const size_t len = end ? (size_t)(end - q->in.s) : q->in.len;
	if (len > max && syncs) {
		q->delimited = false;
		q->in.len = 0;
	} else if (len > max) {
		end_first(q, err_set(EMSGSIZE, AGENT ": its answer is longer than %zu bytes", max),
			NULL);
	} else if (end && syncs) {
		on_sync_line(q, len);
		/* What comes behind an answer belongs to no request. */
		strbuf_reset(&q->in);
	} else if (end) {
		on_answer(q, len);
	}
}

void qga_poll(const struct qga *q, struct pollfd *ret)
{
	*ret = (struct pollfd){.fd = q->state == QGA_IDLE ? -1 : q->sock,
		.events = (short)(POLLIN | (q->sent < q->out.len ? POLLOUT : 0))};
}

void qga_serve(struct qga *q, short revents)
{
	if (q->state != QGA_IDLE && revents & POLLOUT)
		send_some(q);
	if (q->state != QGA_IDLE && revents & ~POLLOUT) {
		const size_t before = q->in.len;
		int r = strbuf_reserve(&q->in, READ_SIZE);
		ssize_t n = r < 0 ? 0 : read(q->sock, q->in.s + before, READ_SIZE);
		if (r < 0) {
			end_all(q, r);
		} else if (n > 0) {
			q->in.len += (size_t)n;
			use_bytes(q, before);
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			fd_close(&q->sock);
			qga_closed(q);
		}
	}
	if (q->state == QGA_IDLE && q->n > 0)
		begin_next(q);
}

void qga_check_deadline(struct qga *q, int64_t now)
{
	if (!q->deadline || now < q->deadline)
		return;
	/* If the agent does not even answer guest-sync-delimited, no request has a chance. */
	if (q->state == QGA_SYNCING)
		end_all(q, err_set(ETIMEDOUT, AGENT " does not answer"));
	else
		end_first(q,
			err_set(ETIMEDOUT, AGENT " has not answered the request in %d seconds",
				QGA_ANSWER_MS / 1000),
			NULL);
	if (q->n > 0)
		begin_next(q);
}
