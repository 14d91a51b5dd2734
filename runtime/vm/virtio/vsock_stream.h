/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host descriptor as the end of a vsock stream: a stream socket, or what a container's standard
 * streams are made of: a pipe's end, a terminal, a regular file, /dev/null. Reading and writing
 * never wait (a regular file's disk apart), and the flags of the open file description that we were
 * given, which others hold too, stay as they are. SIGPIPE must be ignored in this process.
 *
 * epoll tells of changes only (EPOLLET): `readable` and `writable` stay true until a call found
 * otherwise, so that nothing has to be disarmed while the guest has no room, and nothing spins.
 */
#pragma once
#include <sys/uio.h>

#include "base/err.h"
#include "base/fd.h"

/* The directions that a descriptor is for; a terminal may be opened for more than is wanted. */
enum vsock_use { VSOCK_TO_GUEST = 1, VSOCK_FROM_GUEST = 2, VSOCK_BOTH = 3 };

enum vsock_mode {
	VSOCK_SOCKET, /* MSG_DONTWAIT */
	VSOCK_PLAIN,  /* an open file description of our own with O_NONBLOCK, or a regular file */
	VSOCK_NOWAIT, /* RWF_NOWAIT (pipes, since Linux 6.4) */
	VSOCK_POLL,   /* poll(2) before each call, and at most `chunk` bytes written in one */
};

struct vsock_stream {
	int fd; /* -EBADF once both directions have ended */
	int epoll;
	unsigned open; /* of enum vsock_use: directions that have not ended */
	enum vsock_mode mode;
	size_t chunk;
	bool watched; /* in epoll; a regular file can't be, and is always ready */
	bool output_watched;
	bool fifo;
	bool readable, writable;
	void *cookie;
};

/*
 * fd becomes the stream's, also on failure. The directions are those of `use` that fd is open for.
 * `cookie` comes back as epoll_event.data.ptr.
 */
int vsock_stream_open(struct vsock_stream *s, int fd, unsigned use, int epoll, void *cookie)
	must_check;

/* Takes what epoll_wait(2) said. */
void vsock_stream_event(struct vsock_stream *s, uint32_t events);

/* As readv(2) and writev(2), but -errno; -EAGAIN: wait for the event. 0 from a read is the end. */
ssize_t vsock_stream_read(struct vsock_stream *s, const struct iovec *iov, unsigned count)
	must_check;
ssize_t vsock_stream_write(struct vsock_stream *s, const struct iovec *iov, unsigned count)
	must_check;

/* Whether to be told when it is writable: while something waits to be written. */
void vsock_stream_watch_output(struct vsock_stream *s, bool on);

/* Ends directions; the descriptor is closed with the last one. */
void vsock_stream_end(struct vsock_stream *s, unsigned use);
