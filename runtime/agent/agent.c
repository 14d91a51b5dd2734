/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/agent.h"

#include <endian.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/fd.h"

/*
 * How long, in ms, the sender of a frame waits for the other side to read, because a guest that
 * stops reading must not block the monitor forever.
 */
#define SEND_TIMEOUT_MS 10000
#define READ_SIZE (64u << 10)
#define PROCESS_MAX (1u << 28)
#define TYPE_MAX 16

static int make_room(struct agent_reader *r, size_t want)
{
	if (r->size - r->len >= want)
		return 0;
	uint8_t *bytes = realloc(r->bytes, r->len + want);
	if (!bytes)
		return -ENOMEM;
	r->bytes = bytes;
	r->size = r->len + want;
	return 0;
}

static void keep_fds(struct agent_reader *r, const struct msghdr *m)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR((struct msghdr *)m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (r->nfds < AGENT_FDS_MAX)
				r->fds[r->nfds++] = fd;
			else
				fd_close(&fd);
		}
	}
}

int agent_reader_receive(struct agent_reader *r, int sock)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(AGENT_FDS_MAX * sizeof(int))];
	} control;
	ssize_t n;

	if (make_room(r, READ_SIZE) < 0)
		return err_set(ENOMEM, "out of memory for a message");
	struct iovec iov = {r->bytes + r->len, r->size - r->len};
	struct msghdr m = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control)};
	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return -EAGAIN;
	if (n < 0 && errno == ECONNRESET)
		return 0;
	if (n < 0)
		return err_sys("read a message");
	keep_fds(r, &m);
	r->len += (size_t)n;
	return n > 0;
}

static int check_header(const struct agent_header *h)
{
	if (h->json_len < 2 || h->json_len > AGENT_JSON_MAX || h->blob_len > AGENT_BLOB_MAX)
		return err_set(EPROTO,
			"a message of the agent has wrong lengths: found %u and %u, expected "
			"2 to %u and 0 to %u",
			h->json_len, h->blob_len, AGENT_JSON_MAX, AGENT_BLOB_MAX);
	return 0;
}

/*
 * Says whether the text is a short word of small letters, as the type of a frame must be, so that
 * error messages can quote it safely.
 */
static bool is_type(const char *s)
{
	size_t len = strspn(s, "abcdefghijklmnopqrstuvwxyz");

	return len > 0 && len <= TYPE_MAX && !s[len];
}

static int parse_frame(struct agent_frame *f, const uint8_t *bytes, const struct agent_header *h)
{
	uint8_t *blob = arena_alloc(&f->arena, h->blob_len ? h->blob_len : 1);

	if (!blob)
		return -ENOMEM;
	if (h->blob_len)
		memcpy(blob, bytes + h->json_len, h->blob_len);
	f->blob = blob;
	f->blob_len = h->blob_len;
	int r = json_parse(&f->arena, (const char *)bytes, h->json_len, "agent message", &f->json);
	if (r < 0)
		return r == -EINVAL ? err_ctx(-EPROTO, "the agent's message is not JSON") : r;
	f->type = json_get_str(f->json, "type");
	if (!f->type || !is_type(f->type))
		return err_set(EPROTO,
			"a message of the agent's has no type: expected 1 to %d small letters",
			TYPE_MAX);
	return 1;
}

int agent_reader_next(struct agent_reader *r, struct agent_frame *ret)
{
	struct agent_header h;

	if (r->len < sizeof(h))
		return 0;
	memcpy(&h, r->bytes, sizeof(h));
	h.json_len = le32toh(h.json_len);
	h.blob_len = le32toh(h.blob_len);
	int n = check_header(&h);
	if (n < 0)
		return n;
	size_t whole = sizeof(h) + h.json_len + h.blob_len;
	if (r->len < whole)
		return 0;
	*ret = (struct agent_frame){0};
	n = parse_frame(ret, r->bytes + sizeof(h), &h);
	ret->nfds = r->nfds;
	memcpy(ret->fds, r->fds, sizeof(r->fds));
	r->nfds = 0;
	if (n < 0)
		agent_frame_release(ret);
	r->len -= whole;
	memmove(r->bytes, r->bytes + whole, r->len);
	return n;
}

void agent_reader_release(struct agent_reader *r)
{
	free(r->bytes);
	for (unsigned i = 0; i < r->nfds; i++)
		fd_close(&r->fds[i]);
	*r = (struct agent_reader){0};
}

void agent_frame_release(struct agent_frame *f)
{
	arena_release(&f->arena);
	for (unsigned i = 0; i < f->nfds; i++)
		fd_close(&f->fds[i]);
	*f = (struct agent_frame){0};
}

int agent_begin(struct agent_writer *w, const char *type)
{
	int r = json_out_init(&w->json, false);

	if (r < 0)
		return r;
	json_out_object(&w->json, NULL);
	json_out_str(&w->json, "type", type);
	return 0;
}

/* Sends all of the data in `iov`. If the descriptor is non-blocking, waits for room by poll(2). */
static int send_all(int fd, struct iovec *iov, int n)
{
	while (n > 0) {
		ssize_t done = writev(fd, iov, n);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0 && errno == EAGAIN) {
			struct pollfd p = {.fd = fd, .events = POLLOUT};
			if (poll(&p, 1, SEND_TIMEOUT_MS) == 0)
				return err_set(ETIMEDOUT,
					"the other side has read no messages for %d seconds",
					SEND_TIMEOUT_MS / 1000);
			continue;
		}
		if (done < 0)
			return err_sys("write a message");
		for (; n > 0 && (size_t)done >= iov->iov_len; iov++, n--)
			done -= (ssize_t)iov->iov_len;
		if (n > 0) {
			iov->iov_base = (char *)iov->iov_base + done;
			iov->iov_len -= (size_t)done;
		}
	}
	return 0;
}

static int send_with_fds(int sock, struct iovec *iov, const int *fds, unsigned n)
{
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(AGENT_FDS_MAX * sizeof(int))];
	} control = {0};
	struct msghdr m = {.msg_iov = iov, .msg_iovlen = 1};

	if (n > AGENT_FDS_MAX)
		return err_set(
			EINVAL, "%u descriptors: at most %d go with a message", n, AGENT_FDS_MAX);
	m.msg_control = &control;
	m.msg_controllen = CMSG_SPACE(n * sizeof(int));
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(c), fds, n * sizeof(int));
	ssize_t done = sendmsg(sock, &m, MSG_NOSIGNAL);
	if (done != (ssize_t)iov->iov_len)
		return done < 0 ? err_sys("send a message")
				: err_set(EIO, "send a message: only a part was sent");
	return 0;
}

int agent_send_fds(
	struct agent_writer *w, int sock, const struct iovec *blob, const int *fds, unsigned n)
{
	const char *text;
	size_t len, blob_len = blob[0].iov_len + blob[1].iov_len;

	json_out_end_object(&w->json);
	int r = json_out_text(&w->json, &text, &len);
	if (r < 0)
		return r;
	if (len > AGENT_JSON_MAX || blob_len > AGENT_BLOB_MAX)
		return err_set(E2BIG,
			"a message to the agent of %zu and %zu bytes: at most %u and "
			"%u can be sent",
			len, blob_len, AGENT_JSON_MAX, AGENT_BLOB_MAX);
	struct agent_header h = {htole32((uint32_t)len), htole32((uint32_t)blob_len)};
	struct iovec iov[] = {{&h, sizeof(h)}, {(void *)text, len}, blob[0], blob[1]};
	if (!n)
		return send_all(sock, iov, ARRAY_SIZE(iov));
	r = send_with_fds(sock, iov, fds, n);
	return r < 0 ? r : send_all(sock, iov + 1, ARRAY_SIZE(iov) - 1);
}

int agent_send(struct agent_writer *w, int fd, const void *blob, size_t blob_len)
{
	const struct iovec parts[2] = {{(void *)blob, blob_len}, {0}};

	return agent_send_fds(w, fd, parts, NULL, 0);
}

void agent_release(struct agent_writer *w)
{
	json_out_release(&w->json);
}

int agent_failure(const struct agent_frame *f)
{
	const char *message = json_get_str(f->json, "message");
	char line[ERR_MAX];
	int64_t code;

	if (json_get_i64(f->json, "errno", &code) < 0 || code < 0 || code > 4095)
		return err_set(
			EPROTO, "malformed \"%s\" from the agent: expected an errno", f->type);
	if (code == 0)
		return 0;
	str_quote_end(line, sizeof(line), message ? message : "", message ? strlen(message) : 0);
	/*
	 * The line may be empty, because the message of the other side had only line ends or other
	 * bytes that are removed. The error then has the text "failed", because an error always has
	 * a message.
	 */
	return err_set((int)code, "%s", line[0] ? line : "failed");
}

int agent_process(const struct agent_frame *f, uint32_t *ret)
{
	uint64_t n;

	if (json_get_u64(f->json, "process", &n) < 0 || n > PROCESS_MAX)
		return err_set(EPROTO,
			"the agent's message \"%s\": process: expected a number up to %u", f->type,
			PROCESS_MAX);
	*ret = (uint32_t)n;
	return 0;
}
