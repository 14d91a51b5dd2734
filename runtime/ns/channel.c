/* SPDX-License-Identifier: Apache-2.0 */
#include "ns/channel.h"

#include <sys/socket.h>

#include "base/fd.h"

int channel_pair(int ret_fds[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds) < 0)
		return err_sys("make a socket pair");
	return 0;
}

int channel_send(int sock, enum channel_type type, int code, const char *text, int fd)
{
	struct channel_msg m;
	size_t len = strnlen(text, sizeof(m.text) - 1);

	m.type = type;
	m.code = code;
	memcpy(m.text, text, len);
	m.text[len] = '\0';
	return fd_send(sock, &m, offsetof(struct channel_msg, text) + len + 1, fd);
}

int channel_recv(int sock, struct channel_msg *ret, int *ret_fd)
{
	_cleanup_fd_ int fd = -EBADF;
	ssize_t n = fd_recv(sock, ret, sizeof(*ret), &fd);

	if (n == -ECONNRESET)
		n = 0;
	if (n <= 0)
		return (int)n;
	size_t head = offsetof(struct channel_msg, text);
	if ((size_t)n <= head || ((const char *)ret)[n - 1] != '\0' ||
		ret->type < CHANNEL_REACHED || ret->type > CHANNEL_FAILED ||
		(ret->type == CHANNEL_FAILED && ret->code >= 0))
		return err_set(EPROTO, "malformed message from the container's first process");
	*ret_fd = take_fd(&fd);
	return 1;
}

int channel_report(int sock, const char *barrier)
{
	return channel_send(sock, CHANNEL_REACHED, 0, barrier, -EBADF);
}

int channel_await(int sock, const char *barrier)
{
	struct channel_msg m;
	_cleanup_fd_ int fd = -EBADF;

	int r = channel_recv(sock, &m, &fd);
	if (r > 0 && (m.type != CHANNEL_REACHED || !streq(m.text, barrier)))
		return err_set(
			EPROTO, "expected \"%s\" from the runtime, found \"%s\"", barrier, m.text);
	return r;
}

int channel_await_or_exit(int sock, const char *barrier)
{
	int r = channel_await(sock, barrier);

	if (r == 0)
		_exit(1);
	return r < 0 ? r : 0;
}
