/* SPDX-License-Identifier: Apache-2.0 */
#include "ns/channel.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

int channel_pair(int ret_fds[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds) < 0)
		return err_sys("make a socket pair");
	return 0;
}

static size_t fill_message(
	struct channel_msg *m, enum channel_type type, int code, const char *text)
{
	size_t len = strnlen(text, sizeof(m->text) - 1);

	m->type = type;
	m->code = code;
	m->time = clock_ns();
	memcpy(m->text, text, len);
	m->text[len] = '\0';
	return offsetof(struct channel_msg, text) + len + 1;
}

int channel_send(int sock, enum channel_type type, int code, const char *text, int fd)
{
	struct channel_msg m;
	size_t len = fill_message(&m, type, code, text);

	return fd_send(sock, &m, len, fd);
}

int channel_write(int fd, enum channel_type type, int code, const char *text)
{
	struct channel_msg m;
	size_t len = fill_message(&m, type, code, text);

	int r = fd_write_all(fd, &m, len);
	if (r >= 0)
		return 0;
	errno = -r;
	return err_sys("send %zu bytes", len);
}

void channel_log(const struct channel_msg *m)
{
	if (m->code >= LOG_ERROR && m->code <= LOG_DEBUG)
		log_line((enum log_level)m->code, "%s", m->text);
}

bool channel_is_valid(const struct channel_msg *m, size_t len)
{
	return len > offsetof(struct channel_msg, text) && ((const char *)m)[len - 1] == '\0' &&
	       m->type >= CHANNEL_REACHED && m->type <= CHANNEL_SPAN &&
	       (m->type != CHANNEL_FAILED || m->code < 0) &&
	       (m->type != CHANNEL_FORKED || m->code > 0) &&
	       ((m->type != CHANNEL_STEP && m->type != CHANNEL_SPAN) || m->code >= 0);
}

int channel_recv(int sock, struct channel_msg *ret, int *ret_fd)
{
	_cleanup_fd_ int fd = -EBADF;
	ssize_t n = fd_recv(sock, ret, sizeof(*ret), &fd);

	/*
	 * If the process at the other end closed the channel before it read all messages, the
	 * kernel reports ECONNRESET first, once, and delivers only afterwards what that process has
	 * sent.
	 */
	if (n == -ECONNRESET)
		n = fd_recv(sock, ret, sizeof(*ret), &fd);
	if (n <= 0)
		return (int)n;
	if (!channel_is_valid(ret, (size_t)n))
		return err_set(EPROTO, "malformed message from the container's first process");
	*ret_fd = take_fd(&fd);
	return 1;
}

int channel_report(int sock, const char *barrier)
{
	return channel_send(sock, CHANNEL_REACHED, 0, barrier, -EBADF);
}

static ssize_t read_message(int sock, struct channel_msg *m)
{
	ssize_t n;

	do
		n = read(sock, m, sizeof(*m));
	while (n < 0 && errno == EINTR);
	return n;
}

int channel_await(int sock, const char *barrier)
{
	struct channel_msg m;
	ssize_t n = read_message(sock, &m);

	/*
	 * As in channel_recv(), ECONNRESET may come before messages that the process at the other
	 * end has sent. In that case the next read(2) returns these messages.
	 */
	if (n < 0 && errno == ECONNRESET)
		n = read_message(sock, &m);
	if (n == 0)
		return 0;
	if (n < 0)
		return err_sys("receive a message");
	if (!channel_is_valid(&m, (size_t)n))
		return err_set(EPROTO, "malformed message from the runtime");
	if (m.type != CHANNEL_REACHED || !streq(m.text, barrier))
		return err_set(
			EPROTO, "expected \"%s\" from the runtime, found \"%s\"", barrier, m.text);
	return 1;
}

int channel_await_or_exit(int sock, const char *barrier)
{
	int r = channel_await(sock, barrier);

	if (r == 0)
		_exit(1);
	return r < 0 ? r : 0;
}

int channel_report_span(int sock, const struct channel_span *s)
{
	char text[ERR_MAX];

	snprintf(text, sizeof(text), "%" PRIu64 " %" PRIu64 " %d %zu %s", s->begin, s->end,
		s->waits, s->number, s->name);
	return channel_send(sock, CHANNEL_SPAN, s->place, text, -EBADF);
}

int channel_read_span(const struct channel_msg *m, struct channel_span *ret)
{
	int waits, len = 0;

	*ret = (struct channel_span){.place = m->code};
	if (sscanf(m->text, "%" SCNu64 " %" SCNu64 " %d %zu %n", &ret->begin, &ret->end, &waits,
		    &ret->number, &len) != 4 ||
		!len)
		return err_set(EPROTO, "malformed span from the monitor: %s", m->text);
	ret->waits = waits;
	ret->name = m->text + len;
	return 0;
}
