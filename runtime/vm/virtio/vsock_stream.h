/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host descriptor as the end of a vsock stream: a stream socket, or one of those that a
 * container's standard streams use: a pipe's end, a terminal, a regular file, /dev/null. Reading
 * and writing never wait, except for the disk of a regular file. The flags of the open file
 * description stay as they are, because other processes hold it too. SIGPIPE must be ignored in
 * this process.
 *
 * epoll reports only changes (EPOLLET). `readable` and `writable` stay true until a call fails with
 * EAGAIN. So nothing has to be disarmed while the guest has no room, and nothing wakes the loop
 * needlessly.
 */
#pragma once
#include <sys/uio.h>

#include "base/err.h"
#include "base/fd.h"

/* The directions that a descriptor is used for. A terminal may be open for more than that. */
enum vsock_use { VSOCK_TO_GUEST = 1, VSOCK_FROM_GUEST = 2, VSOCK_BOTH = 3 };

enum vsock_mode {
	VSOCK_SOCKET, /* MSG_DONTWAIT */
	VSOCK_PLAIN,  /* a description of the device's own with O_NONBLOCK, or a regular file */
	VSOCK_NOWAIT, /* RWF_NOWAIT (pipes since Linux 6.4) */
	VSOCK_POLL,   /* poll(2) before each call, and each write has at most `chunk` bytes */
};

struct vsock_stream {
	int fd; /* -EBADF when both directions have ended */
	int epoll;
	unsigned open; /* of enum vsock_use: the directions that have not ended */
	enum vsock_mode mode;
	size_t chunk;
	bool watched; /* in epoll; a regular file cannot be, and is always ready */
	bool output_watched;
	bool fifo;
	bool readable, writable;
	void *cookie;
};

/*
 * fd becomes the stream's, also on failure. The directions are those of `use` for which fd is open.
 * epoll gives `cookie` back as epoll_event.data.ptr.
 */
int vsock_stream_open(struct vsock_stream *s, int fd, unsigned use, int epoll, void *cookie)
	must_check;

/* Records the events that epoll_wait(2) has reported. */
void vsock_stream_event(struct vsock_stream *s, uint32_t events);

/*
 * Like readv(2) and writev(2), but return -errno. -EAGAIN: wait for the event. A read returns 0 at
 * the end.
 */
ssize_t vsock_stream_read(struct vsock_stream *s, const struct iovec *iov, unsigned count)
	must_check;
ssize_t vsock_stream_write(struct vsock_stream *s, const struct iovec *iov, unsigned count)
	must_check;

/*
 * Sets whether epoll reports that the descriptor is writable. It is on while data waits to be
 * written.
 */
void vsock_stream_watch_output(struct vsock_stream *s, bool on);

/* Ends directions; the last one closes the descriptor. */
void vsock_stream_end(struct vsock_stream *s, unsigned use);
