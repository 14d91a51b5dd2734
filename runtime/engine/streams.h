/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which descriptor a guest's connection gets: the meeting point of the monitor's loop, which says
 * what a port is for, and the device's thread, which asks when the guest connects.
 *
 * The agent's own stream is a socket pair, whose other end the loop takes from here. A process's
 * standard stream is the caller's descriptor itself: it becomes the device's, so that nothing is
 * copied on the way, and `changed` tells when the device has let go of it.
 */
#pragma once
#include <pthread.h>
#include <stdint.h>

#include "base/json.h"

#define STREAMS_MAX 1024

enum stream_state { STREAM_FREE, STREAM_WAITING, STREAM_JOINED };

struct stream {
	enum stream_state state;
	uint32_t process;
	unsigned stream; /* AGENT_STDIN, ... */
	uint32_t port;
	int fd; /* STREAM_WAITING: for who connects */
};

struct streams {
	pthread_mutex_t lock;
	int changed;    /* eventfd: something below did */
	int agent;      /* our end of the agent's stream, until the loop takes it; else -EBADF */
	bool agent_met; /* the guest connected: it may do so once */
	struct stream stream[STREAMS_MAX];
};

int streams_init(struct streams *s) must_check;
void streams_release(struct streams *s);

/* fd becomes the stream's. -ENOSPC: too many processes at once. */
int streams_offer(struct streams *s, uint32_t process, unsigned stream, int fd) must_check;
/* What the guest is told: [{stream, port}, ..] of what it has not yet connected to. */
void streams_json(struct streams *s, uint32_t process, struct json_out *o);
/* Whether the process has a stream that still carries output: anything but standard input. */
bool streams_has_output(struct streams *s, uint32_t process);
/* What was never connected to is closed; what is connected stays until the guest ends it. */
void streams_withdraw(struct streams *s, uint32_t process);
/* The agent's stream if it has come, once; else -EBADF. */
int streams_take_agent(struct streams *s);

/* For struct virtio_vsock_options; ctx is the struct streams. In the device's thread. */
int streams_on_connect(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use);
void streams_on_closed(void *ctx, uint32_t guest_port, uint32_t port);
