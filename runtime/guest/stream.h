/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A standard stream of a process: what carries bytes between the process's pipe (or its terminal's
 * master) and a stream to the monitor. And the loop that it lives in.
 */
#pragma once
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

/* A descriptor in the loop. ready() may remove any watch, its own too. */
struct watch {
	void (*ready)(struct watch *w, uint32_t events);
	int fd;
	uint32_t events;
	bool on;
};

struct loop {
	int epoll;
};

#define WATCH_NOTHING \
	UINT32_MAX /* not even errors and hang-ups, which epoll else reports always \
		    */

int loop_open(struct loop *l) must_check;
/* Watches fd for events (EPOLL*), changes what is watched for, or WATCH_NOTHING. */
int loop_watch(struct loop *l, struct watch *w, int fd, uint32_t events) must_check;
/* Waits for one event at most, and has it handled. timeout: ms, or -1. */
int loop_turn(struct loop *l, int timeout) must_check;

/* One direction. */
struct flow {
	bool on;
	bool spliced; /* splice(2) does it, so far */
	bool full;    /* what takes the bytes does not, at the moment */
	char *buf;    /* FLOW_SIZE; NULL while spliced */
	size_t start, len;
};

struct stream {
	struct loop *loop;
	int sock;  /* to the monitor; -EBADF: never asked for, or ended */
	int local; /* our end of the pipe, or the terminal's master; -EBADF: not there (yet) */
	bool terminal, connected;
	int refused;         /* errno: the monitor did not take the connection */
	struct flow in, out; /* to the process, from it */
	size_t owed;         /* bytes that were in the pipe when the process exited */
	struct watch sock_watch, local_watch;
};

/* sock: taken over. Nothing flows before stream_start(). */
void stream_init(struct stream *s, struct loop *l, int sock);
/* Awaits the connection already, for a local end that comes later. */
int stream_connect(struct stream *s) must_check;
/* local: taken over; on failure too. */
int stream_start(struct stream *s, int local, bool in, bool out, bool terminal) must_check;
void stream_end(struct stream *s);

/* Output that is not through yet. */
bool stream_has_output(const struct stream *s);
/* The process has exited: what is in the pipe now was written before. */
void stream_count_owed(struct stream *s);
/* Whether that has been passed on, so that only others can hold the stream open. */
bool stream_paid(const struct stream *s);
