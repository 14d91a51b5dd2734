/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A standard stream of a process: it carries bytes between the process's pipe (or the master side
 * of its terminal) and a stream to the monitor. And the event loop in which streams live.
 */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* A descriptor in the loop. ready() may remove any watch, even its own. */
struct watch {
	void (*ready)(struct watch *w, uint32_t events);
	int fd;
	uint32_t events;
	bool on;
};

struct loop {
	int epoll;
};

/* Watches for nothing, not even for errors and hang-ups, which epoll otherwise always reports. */
#define WATCH_NOTHING UINT32_MAX

int loop_open(struct loop *l) must_check;
/*
 * Watches fd for these events (EPOLL*). A second call changes the events; WATCH_NOTHING ends the
 * watch.
 */
int loop_watch(struct loop *l, struct watch *w, int fd, uint32_t events) must_check;
/* Waits for one event at most, and calls the watch's ready(). timeout: ms, or -1 for no limit. */
int loop_wait_once(struct loop *l, int timeout) must_check;

/* One direction of a stream. */
struct flow {
	bool on;
	bool spliced; /* splice(2) moves the bytes; false once it could not */
	bool full;    /* the receiving descriptor takes no more bytes at the moment */
	char *buf;    /* FLOW_SIZE; NULL while spliced */
	size_t start, len;
};

struct stream {
	struct loop *loop;
	int sock; /* to the monitor; -EBADF: the monitor wants no such stream, or it ended */
	/* Our end of the pipe, or the terminal's master side. -EBADF: not opened yet, or ended. */
	int local;
	bool terminal, connected;
	int refused;         /* errno: why the monitor did not take the connection */
	struct flow in, out; /* in: to the process; out: from the process */
	/* bytes that were in the pipe when the process exited and are not sent yet */
	size_t owed;
	struct watch sock_watch, local_watch;
};

/* Takes over `sock`. Nothing flows before stream_start(). */
void stream_init(struct stream *s, struct loop *l, int sock);
/* Waits for the connection now, although the local end comes later. */
int stream_connect(struct stream *s) must_check;
/* Takes over `local`, on failure too. */
int stream_start(struct stream *s, int local, bool in, bool out, bool terminal) must_check;
void stream_end(struct stream *s);

/* Whether the output of the process may go on. */
bool stream_has_output(const struct stream *s);
/*
 * Counts the bytes in the pipe. The caller calls it when the process has exited: it wrote all of
 * them.
 */
void stream_count_owed(struct stream *s);
/* Whether these bytes have been sent, so that only other processes can hold the stream open. */
bool stream_sent_owed(const struct stream *s);
