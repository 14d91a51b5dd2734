/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A standard stream of a process: it carries bytes between the process's pipe (or the master side
 * of its terminal) and a connection to the monitor. This header also declares the event loop in
 * which the streams run.
 */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * A descriptor in the event loop. The function ready() of a watch may remove any watch, even its
 * own.
 */
struct watch {
	void (*ready)(struct watch *w, uint32_t events);
	int fd;
	uint32_t events;
	bool on;
};

struct loop {
	int epoll;
};

/*
 * Value of `events` for a watch that reports nothing, not even the errors and hang-ups that epoll
 * reports for any other value.
 */
#define WATCH_NOTHING UINT32_MAX

int loop_open(struct loop *l) must_check;
/*
 * Watches fd for `events` (EPOLL*). A second call changes the events. WATCH_NOTHING ends the watch.
 */
int loop_watch(struct loop *l, struct watch *w, int fd, uint32_t events) must_check;
/*
 * Waits for at most one event and calls ready() of the event's watch. timeout is in ms; -1: no
 * limit.
 */
int loop_wait_once(struct loop *l, int timeout) must_check;

/* One direction of a standard stream of a process. */
struct flow {
	bool on;
	bool spliced; /* splice(2) moves the bytes; false after splice(2) has failed once */
	bool full;    /* the receiving descriptor accepts no more bytes at the moment */
	char *buf;    /* buffer of FLOW_SIZE bytes; NULL while splice(2) is used */
	size_t start, len;
	bool ended; /* the end of the input was read, and `buf` may still hold bytes before it */
};

struct stream {
	struct loop *loop;
	/*
	 * connection to the monitor; -EBADF: there is no connection, because the monitor wants no
	 * such stream or the stream has ended
	 */
	int sock;
	/*
	 * The agent's end of the pipe, or the terminal's master side. -EBADF: this end is not
	 * opened yet, or has ended.
	 */
	int local;
	bool terminal, connected;
	/*
	 * errno that says why the monitor did not accept the stream's connection; 0: the monitor
	 * accepted it
	 */
	int refused;
	struct flow in, out; /* bytes to the process, and bytes from the process */
	/* how many of the bytes that were in the pipe when the process exited are not sent yet */
	size_t owed;
	struct watch sock_watch, local_watch;
};

/*
 * Initializes a stream. `sock`, its connection to the monitor, belongs to the stream from now on.
 * No bytes flow before stream_start().
 */
void stream_init(struct stream *s, struct loop *l, int sock);
/*
 * Begins to wait until the connection to the monitor is established. `local`, the process's end,
 * need not exist yet.
 */
int stream_connect(struct stream *s) must_check;
/*
 * Starts the flow of bytes between the connection and `local`, of which the stream takes ownership,
 * even on failure.
 */
int stream_start(struct stream *s, int local, bool in, bool out, bool terminal) must_check;
void stream_end(struct stream *s);

/*
 * Stops the flow of bytes before a snapshot of the machine: reads all input that is in the socket
 * into memory, and reads no more output of the process. stream_resume() lets the bytes flow again.
 * stream_reconnect() lets them flow by another connection, `sock`, or ends the stream if `sock` is
 * negative.
 */
int stream_suspend(struct stream *s) must_check;
void stream_resume(struct stream *s);
void stream_reconnect(struct stream *s, int sock);
/* Says whether the stream has a connection to the monitor. */
bool stream_is_open(const struct stream *s);

/* Says whether more output of the process can come. */
bool stream_has_output(const struct stream *s);
/*
 * Counts the bytes that are in the output pipe now. The caller calls this function when the process
 * has exited, because all bytes in the pipe are then output of this process.
 */
void stream_count_owed(struct stream *s);
/*
 * Says whether the bytes that stream_count_owed() counted have been sent. Once they have been sent,
 * only other processes can hold the stream open.
 */
bool stream_sent_owed(const struct stream *s);
