/* SPDX-License-Identifier: Apache-2.0 */
#include "launch/criu_rpc.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "base/interrupt.h"
#include "base/process.h"

/* how the value of a field is written, in the low bits of the field's key */
#define WIRE_VARINT 0
#define WIRE_64BIT 1
#define WIRE_BYTES 2
#define WIRE_32BIT 5

#define REPLY_MAX 8192 /* longest message of CRIU, in bytes */

/* type of the message by which caisson's own process reports that it could not execute criu */
#define NOT_STARTED 255

/* Fields of CRIU's messages criu_req and criu_resp. */
enum { REQ_TYPE = 1, REQ_OPTS = 2, REQ_NOTIFY_SUCCESS = 3 };
enum { RESP_TYPE = 1, RESP_SUCCESS = 2, RESP_RESTORE = 4, RESP_NOTIFY = 5, RESP_MESSAGE = 9 };
enum { RESTORE_PID = 1, NOTIFY_SCRIPT = 1, NOTIFY_PID = 2 };

/* --- writing --- */

void criu_message_release(struct criu_message *m)
{
	strbuf_release(&m->bytes);
}

static void put(struct criu_message *m, const void *data, size_t len)
{
	if (m->failed >= 0)
		m->failed = strbuf_add(&m->bytes, data, len);
}

/* Writes a number with seven bits in each byte, the lowest bits first. */
static void put_varint(struct criu_message *m, uint64_t v)
{
	uint8_t bytes[10];
	size_t n = 0;

	for (; v >= 0x80; v >>= 7)
		bytes[n++] = (uint8_t)(v | 0x80);
	bytes[n++] = (uint8_t)v;
	put(m, bytes, n);
}

void criu_put_number(struct criu_message *m, unsigned field, uint64_t value)
{
	put_varint(m, field << 3 | WIRE_VARINT);
	put_varint(m, value);
}

void criu_put_flag(struct criu_message *m, unsigned field, bool value)
{
	if (value)
		criu_put_number(m, field, 1);
}

static void put_bytes(struct criu_message *m, unsigned field, const void *data, size_t len)
{
	put_varint(m, field << 3 | WIRE_BYTES);
	put_varint(m, len);
	put(m, data, len);
}

void criu_put_text(struct criu_message *m, unsigned field, const char *text)
{
	if (text)
		put_bytes(m, field, text, strlen(text));
}

static void put_message(struct criu_message *m, unsigned field, const struct criu_message *inner)
{
	if (m->failed >= 0)
		m->failed = inner->failed;
	put_bytes(m, field, strbuf_str(&inner->bytes), inner->bytes.len);
}

void criu_put_pair(struct criu_message *m, unsigned field, const char *first, const char *second)
{
	_cleanup_criu_message_ struct criu_message inner = {0};

	criu_put_text(&inner, 1, first);
	criu_put_text(&inner, 2, second);
	put_message(m, field, &inner);
}

void criu_put_numbered(struct criu_message *m, unsigned field, const char *text, uint64_t number)
{
	_cleanup_criu_message_ struct criu_message inner = {0};

	criu_put_text(&inner, 1, text);
	criu_put_number(&inner, 2, number);
	put_message(m, field, &inner);
}

/* --- reading --- */

struct reader {
	const uint8_t *at, *end;
};

/* A field of a message: an integer in `number`, or bytes. */
struct field {
	uint64_t id, number;
	struct reader bytes;
};

static int malformed(void)
{
	return err_set(EBADMSG, "criu: malformed message");
}

static int get_varint(struct reader *r, uint64_t *ret)
{
	*ret = 0;
	for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
		const uint8_t byte = *r->at++;
		*ret |= (uint64_t)(byte & 0x7f) << shift;
		if (byte < 0x80)
			return 0;
	}
	return malformed();
}

/* Reads the next field. Returns 0 at the end of the message, and 1 if there was a field. */
static int get_field(struct reader *r, struct field *ret)
{
	uint64_t key, len = 0;

	if (r->at == r->end)
		return 0;
	*ret = (struct field){0};
	if (get_varint(r, &key) < 0)
		return malformed();
	ret->id = key >> 3;
	switch (key & 7) {
	case WIRE_VARINT:
		return get_varint(r, &ret->number) < 0 ? malformed() : 1;
	case WIRE_BYTES:
		if (get_varint(r, &len) < 0)
			return malformed();
		break;
	case WIRE_64BIT:
		len = 8;
		break;
	case WIRE_32BIT:
		len = 4;
		break;
	default:
		return malformed();
	}
	if (len > (uint64_t)(r->end - r->at))
		return malformed();
	ret->bytes = (struct reader){r->at, r->at + len};
	r->at += len;
	return 1;
}

static void copy_text(const struct reader *bytes, char *dst, size_t size)
{
	size_t len = (size_t)(bytes->end - bytes->at);

	while (len > 0 && bytes->at[len - 1] == '\n')
		len--;
	str_clean(dst, size, (const char *)bytes->at, len);
}

static int read_notify(struct reader r, struct criu_reply *ret)
{
	struct field f;
	int more;

	while ((more = get_field(&r, &f)) > 0) {
		if (f.id == NOTIFY_SCRIPT && f.bytes.at)
			copy_text(&f.bytes, ret->script, sizeof(ret->script));
		else if (f.id == NOTIFY_PID)
			ret->pid = f.number;
	}
	return more;
}

static int read_restore(struct reader r, struct criu_reply *ret)
{
	struct field f;
	int more;

	while ((more = get_field(&r, &f)) > 0)
		if (f.id == RESTORE_PID)
			ret->pid = f.number;
	return more;
}

int criu_read_reply(const void *data, size_t len, struct criu_reply *ret)
{
	struct reader r = {data, (const uint8_t *)data + len};
	struct field f;
	int more;

	*ret = (struct criu_reply){0};
	while ((more = get_field(&r, &f)) > 0) {
		if (f.id == RESP_TYPE)
			ret->type = f.number;
		else if (f.id == RESP_SUCCESS)
			ret->success = f.number != 0;
		else if (f.id == RESP_MESSAGE && f.bytes.at)
			copy_text(&f.bytes, ret->message, sizeof(ret->message));
		else if (f.id == RESP_RESTORE && f.bytes.at)
			more = read_restore(f.bytes, ret);
		else if (f.id == RESP_NOTIFY && f.bytes.at)
			more = read_notify(f.bytes, ret);
		if (more < 0)
			return more;
	}
	/* After a failure CRIU sends a negative pid. */
	if (ret->pid > INT32_MAX)
		ret->pid = 0;
	return more < 0 ? malformed() : 0;
}

/* --- the process --- */

/*
 * Sends the error message of this process to the parent, in the form in which criu would report a
 * failure.
 */
_Noreturn static void report_failure(int sock)
{
	_cleanup_criu_message_ struct criu_message m = {0};
	char request[64];

	criu_put_number(&m, RESP_TYPE, NOT_STARTED);
	criu_put_number(&m, RESP_SUCCESS, 0);
	criu_put_text(&m, RESP_MESSAGE, err_msg());
	(void)!write(sock, strbuf_str(&m.bytes), m.bytes.len);
	/*
	 * This process must not close the socket before the parent has read the message, because
	 * the parent would get ECONNRESET instead if its request were still unread.
	 */
	while (read(sock, request, sizeof(request)) > 0)
		;
	_exit(1);
}

static int keep_open(int fd)
{
	return fd < 0 || fcntl(fd, F_SETFD, 0) == 0 ? 0 : err_sys("pass a descriptor to criu");
}

/*
 * Makes the socket over which criu gets its request, and sends the other end to the parent. criu
 * opens the descriptors of a request in the process that has made the socket, which must therefore
 * be this one: it may be in a mount namespace of its own.
 */
static int make_socket(int parent)
{
	int socks[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0)
		return err_sys("make a socket pair");
	_cleanup_fd_ int theirs = socks[0];
	_cleanup_fd_ int own = socks[1];
	int r = fd_send(parent, "", 1, theirs);
	if (r >= 0)
		r = keep_open(own);
	return r < 0 ? r : take_fd(&own);
}

_Noreturn static void become_criu(const struct criu_start *a, int parent)
{
	sigset_t none;
	char number[16];

	/*
	 * The parent sends a byte when criu may start, because the parent first moves this process
	 * into a cgroup. If the parent closes the socket instead, this process ends.
	 */
	if (read(parent, number, 1) != 1)
		_exit(1);
	int r = a->prepare ? a->prepare(a->data) : 0;
	for (size_t i = 0; i < a->ninherited && r >= 0; i++)
		r = keep_open(a->inherited[i]);
	int sock = r < 0 ? r : make_socket(parent);
	if (sock < 0)
		report_failure(parent);
	/* The restored processes must not inherit the signals that caisson has blocked. */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/*
	 * SIGXFSZ would end criu, which then could not say that an image exceeds RLIMIT_FSIZE.
	 * Restored processes get the actions that they had.
	 */
	signal(SIGXFSZ, SIG_IGN);
	snprintf(number, sizeof(number), "%d", sock);
	execlp("criu", "criu", "swrk", number, (char *)NULL);
	if (errno == ENOENT)
		err_set(ENOENT, "criu is not installed (Debian: apt install criu)");
	else
		err_sys("execute criu");
	report_failure(sock);
}

int criu_start(const struct criu_start *a, struct criu *ret)
{
	int socks[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0)
		return err_sys("make a socket pair");
	_cleanup_fd_ int theirs = socks[1];
	ret->sock = socks[0];
	ret->pid = fork();
	if (ret->pid == 0) {
		fd_close(&ret->sock);
		become_criu(a, theirs);
	}
	if (ret->pid > 0)
		return 0;
	ret->pid = 0;
	return err_sys("fork");
}

void criu_end(struct criu *c)
{
	int status;

	fd_close(&c->sock);
	if (c->pid <= 0)
		return;
	while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
		;
	c->pid = 0;
}

static int send_message(const struct criu *c, const struct criu_message *m)
{
	if (m->failed < 0)
		return m->failed;
	/* If criu has ended already, its last message says why, so EPIPE is no error here. */
	if (send(c->sock, strbuf_str(&m->bytes), m->bytes.len, MSG_NOSIGNAL) < 0 &&
		errno != EPIPE && errno != ECONNRESET)
		return err_sys("send a request to criu");
	return 0;
}

static int answer(const struct criu *c, bool success)
{
	_cleanup_criu_message_ struct criu_message m = {0};

	criu_put_number(&m, REQ_TYPE, CRIU_NOTIFY);
	criu_put_number(&m, REQ_NOTIFY_SUCCESS, success);
	return send_message(c, &m);
}

static int receive(struct criu *c, struct criu_reply *ret, int *ret_fd)
{
	uint8_t data[REPLY_MAX];

	int r = interrupt_wait(c->interrupt, c->sock);
	if (r < 0)
		return r;
	ssize_t n = fd_recv(c->sock, data, sizeof(data), ret_fd);
	if (n < 0)
		return err_ctx((int)n, "criu");
	if (n == 0)
		return err_set(EIO, "criu has ended without a result");
	/* With the socket comes a byte that is no message. */
	if (n == 1) {
		*ret = (struct criu_reply){0};
		return 0;
	}
	return criu_read_reply(data, (size_t)n, ret);
}

static int failed(const struct criu_reply *reply)
{
	if (reply->type == NOT_STARTED)
		return err_set(EIO, "%s", reply->message);
	return err_set(EIO, "criu: %s", reply->message[0] ? reply->message : "it failed");
}

/* Lets the process execute criu, and takes the socket to it. */
static int go(struct criu *c)
{
	struct criu_reply reply;
	_cleanup_fd_ int sock = -EBADF;

	if (send(c->sock, "", 1, MSG_NOSIGNAL) < 0)
		return err_sys("start criu");
	int r = receive(c, &reply, &sock);
	if (r < 0 || sock < 0)
		return r < 0 ? r : failed(&reply);
	fd_close(&c->sock);
	c->sock = take_fd(&sock);
	return 0;
}

int criu_call(struct criu *c, enum criu_type type, const struct criu_message *opts,
	criu_notified_fn *notified, void *data)
{
	_cleanup_criu_message_ struct criu_message request = {0};
	_cleanup_free_ char *why = NULL;
	struct criu_reply reply;

	criu_put_number(&request, REQ_TYPE, type);
	put_message(&request, REQ_OPTS, opts);
	int r = go(c);
	if (r >= 0)
		r = send_message(c, &request);
	while (r >= 0) {
		_cleanup_fd_ int fd = -EBADF;
		r = receive(c, &reply, &fd);
		if (r < 0)
			break;
		if (reply.type != CRIU_NOTIFY)
			return reply.success ? 0 : why ? err_set(EIO, "%s", why) : failed(&reply);
		int n = notified && !why ? notified(data, &reply, fd) : 0;
		if (n < 0)
			why = strdup(err_msg());
		r = answer(c, n >= 0);
	}
	return r;
}
