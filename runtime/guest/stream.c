/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. In each direction of a stream, epoll watches one of the two descriptors: the
 * source of the bytes or, while the destination accepts no more bytes, the destination. splice(2)
 * fails with EAGAIN if there is nothing to read and also if there is no room to write, so poll(2)
 * finds out which of these two reasons it was. The agent watches for two more events. EPOLLERR of
 * the pipe says that no one reads the process's input any more. EPOLLHUP of the socket says that
 * the monitor wants no more output; the process then gets EPIPE. EPOLLRDHUP is ignored, because the
 * monitor never sends on an output stream.
 *
 * A terminal works as long as both of its ends are open. At the end of the monitor's input the
 * agent writes Ctrl-D to the terminal, as runtime/launch/attend.c does. If the monitor closes the
 * whole stream, the terminal hangs up.
 */
#include "guest/stream.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.h"

#define FLOW_SIZE ((size_t)64 << 10)
/* how many times a stream that has bytes moves them before other streams get their turn */
#define FLOW_MOVES_MAX 16

int loop_open(struct loop *l)
{
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	return l->epoll < 0 ? err_sys("make an epoll descriptor") : 0;
}

int loop_watch(struct loop *l, struct watch *w, int fd, uint32_t events)
{
	struct epoll_event e = {.events = events, .data.ptr = w};
	bool on = events != WATCH_NOTHING && fd >= 0;

	if (on == w->on && (!on || (events == w->events && fd == w->fd)))
		return 0;
	if (w->on && (!on || fd != w->fd)) {
		if (epoll_ctl(l->epoll, EPOLL_CTL_DEL, w->fd, NULL) < 0)
			return err_sys("stop watching a descriptor");
		w->on = false;
	}
	if (!on)
		return 0;
	if (epoll_ctl(l->epoll, w->on ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &e) < 0)
		return err_sys("watch a descriptor");
	w->on = true;
	w->fd = fd;
	w->events = events;
	return 0;
}

/*
 * Only one event is handled at a time, because the handler of an event may free the watch of the
 * next event.
 */
int loop_wait_once(struct loop *l, int timeout)
{
	struct epoll_event e;
	int n = epoll_wait(l->epoll, &e, 1, timeout);

	if (n < 0 && errno != EINTR)
		return err_sys("wait for events");
	if (n > 0) {
		struct watch *w = e.data.ptr;
		w->ready(w, e.events);
	}
	return 0;
}

enum flow_result { FLOW_WAITS, FLOW_MOVED, FLOW_ENDED, FLOW_BROKEN };

static bool can_write(int to)
{
	struct pollfd p = {.fd = to, .events = POLLOUT};

	return poll(&p, 1, 0) > 0;
}

/*
 * Finds out from errno why a read or write failed: either the input has ended, or the descriptor
 * that receives the bytes is broken.
 */
static enum flow_result flow_error(struct flow *f, int to, bool writing)
{
	if (errno == EAGAIN || errno == EINTR) {
		f->full = writing && !can_write(to);
		return FLOW_WAITS;
	}
	return writing ? FLOW_BROKEN : FLOW_ENDED;
}

static enum flow_result splice_some(struct flow *f, int from, int to, size_t *ret_n)
{
	ssize_t n = splice(from, NULL, to, NULL, FLOW_SIZE, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);

	*ret_n = n > 0 ? (size_t)n : 0;
	if (n > 0)
		return FLOW_MOVED;
	if (n == 0)
		return FLOW_ENDED;
	if (errno == EAGAIN || errno == EINTR)
		return flow_error(f, to, true);
	/*
	 * From now on read(2) and write(2) move the bytes, because a failed read(2) or write(2)
	 * tells which descriptor failed, and a failed splice(2) does not.
	 */
	f->spliced = false;
	return FLOW_MOVED;
}

static enum flow_result copy_some(struct flow *f, int from, int to, size_t *ret_n)
{
	ssize_t n;

	*ret_n = 0;
	if (!f->buf)
		f->buf = malloc(FLOW_SIZE);
	if (!f->buf)
		return FLOW_BROKEN;
	if (f->len == 0 && f->ended)
		return FLOW_ENDED;
	if (f->len == 0) {
		n = read(from, f->buf, FLOW_SIZE);
		if (n <= 0)
			return n == 0 ? FLOW_ENDED : flow_error(f, to, false);
		f->start = 0;
		f->len = (size_t)n;
	}
	n = write(to, f->buf + f->start, f->len);
	if (n < 0)
		return flow_error(f, to, true);
	f->start += (size_t)n;
	f->len -= (size_t)n;
	*ret_n = (size_t)n;
	return FLOW_MOVED;
}

static enum flow_result flow_run(struct flow *f, int from, int to, size_t *owed)
{
	enum flow_result r = FLOW_MOVED;

	f->full = false;
	for (int i = 0; i < FLOW_MOVES_MAX && r == FLOW_MOVED; i++) {
		size_t n;
		r = f->spliced ? splice_some(f, from, to, &n) : copy_some(f, from, to, &n);
		*owed -= n < *owed ? n : *owed;
	}
	return r;
}

/*
 * Makes the loop watch each of the stream's two descriptors for the events that the stream needs in
 * its present state.
 */
static int watch_both(struct stream *s)
{
	uint32_t sock = WATCH_NOTHING, local = WATCH_NOTHING;

	if (!s->connected) {
		sock = EPOLLOUT;
	} else if (s->terminal) {
		sock = (s->in.on && !s->in.full ? EPOLLIN : 0) | (s->out.full ? EPOLLOUT : 0);
		local = (s->in.full ? EPOLLOUT : 0) | (s->out.full ? 0 : EPOLLIN);
		/*
		 * The terminal's master is not watched while bytes from it wait until the socket
		 * accepts them, because the master reports a hang-up all the time if the terminal
		 * has no open slave side.
		 */
		if (s->out.full && !s->in.full)
			local = WATCH_NOTHING;
	} else if (s->in.on) {
		sock = s->in.full ? WATCH_NOTHING : EPOLLIN;
		local = s->in.full ? EPOLLOUT : 0;
	} else {
		sock = s->out.full ? EPOLLOUT : 0;
		local = s->out.full ? WATCH_NOTHING : EPOLLIN;
	}
	int r = loop_watch(s->loop, &s->sock_watch, s->sock, sock);
	return r < 0 ? r : loop_watch(s->loop, &s->local_watch, s->local, local);
}

void stream_end(struct stream *s)
{
	if (!s->loop)
		return;
	/*
	 * The results of loop_watch() are ignored, because it cannot fail for a descriptor that is
	 * open and watched already.
	 */
	(void)!loop_watch(s->loop, &s->sock_watch, s->sock, WATCH_NOTHING);
	(void)!loop_watch(s->loop, &s->local_watch, s->local, WATCH_NOTHING);
	fd_close(&s->sock);
	fd_close(&s->local);
	free(s->in.buf);
	free(s->out.buf);
	s->in = s->out = (struct flow){0};
	s->owed = 0;
}

/* Ends the process's input, because the monitor will send no more input. */
static void stream_end_input(struct stream *s)
{
	static const char eot = 4;

	s->in.on = false;
	if (s->terminal)
		(void)!write(s->local, &eot, 1);
	else
		/*
		 * stream_end() closes the writing end of the pipe, so that the process reads the
		 * end of its input.
		 */
		stream_end(s);
}

static void stream_run(struct stream *s, bool hung_up)
{
	size_t none = 0;

	if (s->in.on) {
		enum flow_result r = flow_run(&s->in, s->sock, s->local, &none);
		if (r == FLOW_BROKEN)
			return stream_end(s);
		if (r == FLOW_ENDED)
			stream_end_input(s);
		if (s->sock < 0)
			return;
	}
	if (hung_up)
		return stream_end(s);
	if (s->out.on) {
		enum flow_result r = flow_run(&s->out, s->local, s->sock, &s->owed);
		if (r == FLOW_BROKEN || r == FLOW_ENDED)
			return stream_end(s);
	}
	if (s->sock >= 0 && watch_both(s) < 0)
		stream_end(s);
}

static void on_local(struct watch *w, uint32_t events)
{
	struct stream *s = (struct stream *)((char *)w - offsetof(struct stream, local_watch));

	/*
	 * The stream ends, because EPOLLERR says that no process reads the pipe of the input any
	 * more.
	 */
	if (!s->terminal && s->in.on && (events & EPOLLERR))
		return stream_end(s);
	stream_run(s, false);
}

static void on_sock(struct watch *w, uint32_t events)
{
	struct stream *s = (struct stream *)((char *)w - offsetof(struct stream, sock_watch));
	bool hung_up = events & (EPOLLHUP | EPOLLERR);

	if (!s->connected) {
		int error = 0;
		socklen_t len = sizeof(error);
		if (getsockopt(s->sock, SOL_SOCKET, SO_ERROR, &error, &len) < 0 || error) {
			s->refused = error ?: errno;
			return stream_end(s);
		}
		s->connected = true;
		hung_up = false;
	}
	if (s->local < 0) {
		/*
		 * The socket is not watched until INIT has sent the terminal's master, because
		 * until then there is no place for bytes that come.
		 */
		if (loop_watch(s->loop, w, s->sock, WATCH_NOTHING) < 0)
			stream_end(s);
		return;
	}
	/*
	 * The stream does not end yet, because bytes that the monitor sent before it hung up are
	 * still input for the process.
	 */
	if (!s->terminal && s->in.on)
		hung_up = false;
	stream_run(s, hung_up);
}

void stream_init(struct stream *s, struct loop *l, int sock)
{
	*s = (struct stream){.loop = l, .sock = sock, .local = -EBADF};
	s->sock_watch.ready = on_sock;
	s->local_watch.ready = on_local;
}

int stream_connect(struct stream *s)
{
	return loop_watch(s->loop, &s->sock_watch, s->sock, EPOLLOUT);
}

int stream_start(struct stream *s, int local, bool in, bool out, bool terminal)
{
	s->local = local;
	s->terminal = terminal;
	s->in = (struct flow){.on = in, .spliced = !terminal};
	s->out = (struct flow){.on = out, .spliced = !terminal};
	if (fcntl(local, F_SETFL, O_NONBLOCK) < 0)
		return err_sys("set a stream non-blocking");
	return watch_both(s);
}

bool stream_has_output(const struct stream *s)
{
	return s->out.on && s->sock >= 0;
}

void stream_count_owed(struct stream *s)
{
	int n = 0;

	if (s->out.on && !s->terminal && ioctl(s->local, FIONREAD, &n) == 0 && n > 0)
		s->owed = (size_t)n + s->out.len;
}

bool stream_sent_owed(const struct stream *s)
{
	int n = 0;

	if (!stream_has_output(s) || s->owed == 0)
		return !s->terminal || !s->out.full;
	/*
	 * The pipe may be empty although the agent still counts bytes as owed to the monitor,
	 * because other processes that hold the pipe may have read these bytes.
	 */
	return s->out.len == 0 && ioctl(s->local, FIONREAD, &n) == 0 && n == 0;
}

bool stream_is_open(const struct stream *s)
{
	return s->sock >= 0;
}

/* Reads all bytes that the socket has into the flow's buffer, which grows as needed. */
static int take_input(struct stream *s)
{
	struct flow *f = &s->in;

	f->spliced = false;
	if (f->start > 0)
		memmove(f->buf, f->buf + f->start, f->len);
	f->start = 0;
	while (!f->ended) {
		char *buf = realloc(f->buf, f->len + FLOW_SIZE);

		if (!buf)
			return err_set(ENOMEM, "out of memory for a process's input");
		f->buf = buf;
		ssize_t n = read(s->sock, f->buf + f->len, FLOW_SIZE);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		/*
		 * A failed read of the socket counts as the end of the input, as it does in
		 * flow_error().
		 */
		f->ended = n <= 0;
		f->len += n > 0 ? (size_t)n : 0;
	}
	return 0;
}

int stream_suspend(struct stream *s)
{
	if (!s->loop || s->sock < 0)
		return 0;
	if (!s->connected)
		return err_set(EBUSY, "a standard stream is not connected yet");
	int r = loop_watch(s->loop, &s->sock_watch, s->sock, WATCH_NOTHING);
	if (r >= 0)
		r = loop_watch(s->loop, &s->local_watch, s->local, WATCH_NOTHING);
	return r >= 0 && s->in.on ? take_input(s) : r;
}

void stream_resume(struct stream *s)
{
	if (s->loop && s->sock >= 0 && s->local >= 0)
		stream_run(s, false);
}

void stream_reconnect(struct stream *s, int sock)
{
	if (sock < 0)
		return stream_end(s);
	fd_close(&s->sock);
	s->sock = sock;
	s->connected = false;
	/*
	 * The input need not be ended here, because either the monitor ended it before the snapshot
	 * was made, or the monitor that restored the machine will end it.
	 */
	if (stream_connect(s) < 0)
		stream_end(s);
}
