/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uses a descriptor of the host as the end of a vsock stream. The descriptor may be a stream socket
 * or one of the files that a container uses as standard streams: a pipe, a terminal, a regular
 * file, /dev/null. Reading and writing never wait, except for the disk of a regular file. The flags
 * of the open file description stay as they are, because other processes use the same description.
 * SIGPIPE must be ignored in this process.
 *
 * epoll reports only changes (EPOLLET). `readable` and `writable` stay true until a call fails with
 * EAGAIN. So the device need not change the epoll set while the guest has no room, and the event
 * loop is not woken without need.
 */
#pragma once
#include <sys/uio.h>

#include "base/err.h"
#include "base/fd.h"

/*
 * The directions in which the device uses a descriptor. A terminal may be open for both directions
 * and used for one.
 */
enum vsock_use { VSOCK_TO_GUEST = 1, VSOCK_FROM_GUEST = 2, VSOCK_BOTH = 3 };

enum vsock_mode {
	VSOCK_SOCKET, /* the descriptor is a socket, so each call has the flag MSG_DONTWAIT */
	/*
	 * the stream has an open file description of its own with O_NONBLOCK, or is a regular file
	 */
	VSOCK_PLAIN,
	VSOCK_NOWAIT, /* each call has the flag RWF_NOWAIT (works for pipes since Linux 6.4) */
	/* poll(2) is called before each read or write, and a write has at most `chunk` bytes */
	VSOCK_POLL,
};

struct vsock_stream {
	int fd; /* descriptor of the host; -EBADF after both directions have ended */
	int epoll;
	unsigned open; /* bits of enum vsock_use: the directions that have not ended */
	enum vsock_mode mode;
	size_t chunk;
	/*
	 * the descriptor is in the epoll set; a regular file cannot be in it, and is always ready
	 */
	bool watched;
	bool output_watched;
	bool fifo;
	bool readable, writable;
	void *cookie;
};

/*
 * Starts to use fd, which the stream then owns, even if the call fails. The stream has those
 * directions of `use` for which fd is open. epoll reports its events with `cookie` in
 * epoll_event.data.ptr.
 */
int vsock_stream_open(struct vsock_stream *s, int fd, unsigned use, int epoll, void *cookie)
	must_check;

/* Records the events that epoll_wait(2) has reported for the stream. */
void vsock_stream_event(struct vsock_stream *s, uint32_t events);

/*
 * Read and write like readv(2) and writev(2), but return -errno on failure. -EAGAIN means that the
 * caller has to wait for the next event. A read returns 0 at the end of the input.
 */
ssize_t vsock_stream_read(struct vsock_stream *s, const struct iovec *iov, unsigned count)
	must_check;
ssize_t vsock_stream_write(struct vsock_stream *s, const struct iovec *iov, unsigned count)
	must_check;

/*
 * Sets whether epoll reports that the descriptor is writable. The device wants this only while data
 * waits to be written.
 */
void vsock_stream_watch_output(struct vsock_stream *s, bool on);

/* Ends the directions in `use`. When both have ended, the descriptor is closed. */
void vsock_stream_end(struct vsock_stream *s, unsigned use);
