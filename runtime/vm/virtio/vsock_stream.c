/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The device must not wait for a descriptor, and must not set O_NONBLOCK on
 * the descriptor either, because other processes share its open file description. For a socket each
 * call has a flag not to wait. For a pipe or a terminal the device opens the same file again
 * through /proc and gets an open file description of its own. If it cannot (no /proc in the jail,
 * or a terminal of another user), it uses RWF_NOWAIT. If the file does not support RWF_NOWAIT
 * either, the device calls poll(2) before each read or write. Only in this last case may the device
 * wait: if another process uses the same terminal between poll(2) and the read or write.
 */
#include "vm/virtio/vsock_stream.h"

#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/nonblock.h"

static unsigned open_directions(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return 0;
	switch (flags & O_ACCMODE) {
	case O_RDONLY:
		return VSOCK_TO_GUEST;
	case O_WRONLY:
		return VSOCK_FROM_GUEST;
	default:
		return VSOCK_BOTH;
	}
}

static int choose_mode(struct vsock_stream *s)
{
	struct stat st;

	if (fstat(s->fd, &st) < 0)
		return err_sys("read the type of a stream's descriptor");
	bool is_tty = S_ISCHR(st.st_mode) && isatty(s->fd);
	int own = nonblock_open(s->fd, s->open == VSOCK_BOTH       ? O_RDWR
				       : s->open == VSOCK_TO_GUEST ? O_RDONLY
								   : O_WRONLY);
	s->fifo = S_ISFIFO(st.st_mode);
	if (own >= 0) {
		fd_close(&s->fd);
		s->fd = own;
	}
	if (S_ISSOCK(st.st_mode))
		s->mode = VSOCK_SOCKET;
	else if (own < 0 && (s->fifo || S_ISCHR(st.st_mode)))
		s->mode = VSOCK_NOWAIT;
	else
		s->mode = VSOCK_PLAIN;
	/*
	 * Limits each write to the room that poll(2) guarantees: one byte in a terminal, PIPE_BUF
	 * in a pipe.
	 */
	s->chunk = is_tty ? 1 : PIPE_BUF;
	return 0;
}

static int update_watch(struct vsock_stream *s, int op)
{
	struct epoll_event e = {.events = EPOLLET, .data.ptr = s->cookie};

	if (s->open & VSOCK_TO_GUEST)
		e.events |= EPOLLIN;
	if (s->output_watched)
		e.events |= EPOLLOUT;
	return epoll_ctl(s->epoll, op, s->fd, &e);
}

int vsock_stream_open(struct vsock_stream *s, int fd, unsigned use, int epoll, void *cookie)
{
	*s = (struct vsock_stream){.fd = fd,
		.epoll = epoll,
		.cookie = cookie,
		.open = use & open_directions(fd),
		.readable = true,
		.writable = true};
	int r = choose_mode(s);
	if (r >= 0 && s->open == 0)
		r = err_set(EBADF,
			"a stream's descriptor is not open for reading or writing as wanted");
	if (r >= 0) {
		s->watched = update_watch(s, EPOLL_CTL_ADD) == 0;
		if (!s->watched && errno == EPERM)
			s->mode = VSOCK_PLAIN; /* the file is always ready, such as /dev/null */
		else if (!s->watched)
			r = err_sys("watch a stream's descriptor");
	}
	if (r < 0)
		fd_close(&s->fd);
	return r;
}

void vsock_stream_event(struct vsock_stream *s, uint32_t events)
{
	const uint32_t ends = EPOLLHUP | EPOLLERR;

	if (events & (EPOLLIN | ends))
		s->readable = true;
	if (events & (EPOLLOUT | ends))
		s->writable = true;
}

static bool is_ready(const struct vsock_stream *s, short events)
{
	struct pollfd p = {s->fd, events, 0};

	return poll(&p, 1, 0) > 0;
}

static ssize_t transfer_once(
	struct vsock_stream *s, bool output, const struct iovec *iov, unsigned count)
{
	struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = count};
	struct iovec first = iov[0];
	ssize_t r;

	switch (s->mode) {
	case VSOCK_SOCKET:
		return output ? sendmsg(s->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL)
			      : recvmsg(s->fd, &m, MSG_DONTWAIT);
	case VSOCK_PLAIN:
		return output ? writev(s->fd, iov, (int)count) : readv(s->fd, iov, (int)count);
	case VSOCK_NOWAIT:
		r = output ? pwritev2(s->fd, iov, (int)count, -1, RWF_NOWAIT)
			   : preadv2(s->fd, iov, (int)count, -1, RWF_NOWAIT);
		if (r >= 0 || errno != EOPNOTSUPP)
			return r;
		s->mode = VSOCK_POLL;
		break;
	case VSOCK_POLL:
		break;
	}
	if (!is_ready(s, output ? POLLOUT : POLLIN)) {
		errno = EAGAIN;
		return -1;
	}
	if (!output)
		return readv(s->fd, iov, (int)count);
	return write(s->fd, first.iov_base, first.iov_len < s->chunk ? first.iov_len : s->chunk);
}

static ssize_t transfer_data(
	struct vsock_stream *s, bool output, const struct iovec *iov, unsigned count)
{
	ssize_t r;

	do
		r = transfer_once(s, output, iov, count);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : r;
}

ssize_t vsock_stream_read(struct vsock_stream *s, const struct iovec *iov, unsigned count)
{
	ssize_t r = transfer_data(s, false, iov, count);

	if (r == -EAGAIN)
		s->readable = false;
	return r;
}

ssize_t vsock_stream_write(struct vsock_stream *s, const struct iovec *iov, unsigned count)
{
	ssize_t r = transfer_data(s, true, iov, count);

	if (r == -EAGAIN)
		s->writable = false;
	return r;
}

void vsock_stream_watch_output(struct vsock_stream *s, bool on)
{
	if (!s->watched || s->output_watched == on)
		return;
	s->output_watched = on;
	/*
	 * EPOLL_CTL_MOD makes epoll check whether the file is ready now, so that epoll also reports
	 * a file that became ready before this call.
	 */
	if (update_watch(s, EPOLL_CTL_MOD) < 0)
		s->writable = true;
}

void vsock_stream_end(struct vsock_stream *s, unsigned use)
{
	use &= s->open;
	s->open &= ~use;
	if (s->fd < 0 || use == 0)
		return;
	if (s->open) {
		if (s->mode == VSOCK_SOCKET)
			shutdown(s->fd, use == VSOCK_TO_GUEST ? SHUT_RD : SHUT_WR);
		if (s->watched)
			(void)update_watch(s, EPOLL_CTL_MOD);
		return;
	}
	/*
	 * Removes the descriptor from epoll, because closing it does not remove it if another
	 * process holds the same description.
	 */
	if (s->watched)
		epoll_ctl(s->epoll, EPOLL_CTL_DEL, s->fd, NULL);
	fd_close(&s->fd);
}
