/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of what each vsock port is for. The monitor's loop offers a descriptor at a port, and the
 * thread of the vsock device takes the descriptor when the guest connects to that port.
 *
 * The agent's stream is a socket pair: the device gets one end, and the loop takes the other one
 * from here. A process's standard stream is the very descriptor that the caller of the runtime
 * gave. It becomes the device's, so that nothing is copied on the way.
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
	unsigned stream; /* AGENT_STDIN, AGENT_STDOUT, AGENT_STDERR, AGENT_TERMINAL */
	uint32_t port;
	bool errors;   /* of AGENT_STDOUT: it is the process's standard error too */
	int fd;        /* while STREAM_WAITING: what the guest's connection gets */
	bool marked;   /* by streams_mark() */
	uint32_t owed; /* what is owed ends at this byte of the stream, modulo 2^32 */
};

struct virtio_vsock;

struct streams {
	pthread_mutex_t lock;
	int changed; /* eventfd: the guest has connected, or the device has closed a stream */
	int agent;   /* our end of the agent's stream until the loop takes it, else -EBADF */
	struct virtio_vsock *device; /* the engine sets it before the guest runs */
	bool agent_met;              /* the agent has connected, which it may do once */
	struct stream stream[STREAMS_MAX];
};

int streams_init(struct streams *s) must_check;
void streams_release(struct streams *s);

/*
 * On success fd belongs to the stream. Standard error becomes one stream with a standard output
 * that was offered before and is the same open file description, because two streams would not
 * keep the order of what is written to both. -ENOSPC: there are too many streams at once.
 */
int streams_offer(struct streams *s, uint32_t process, unsigned stream, int fd) must_check;
/* Writes the member "stdio" of agent/protocol.h: the process's streams that still wait. */
void streams_json(struct streams *s, uint32_t process, struct json_out *o);
/* Whether the process has a stream that still carries output: anything but standard input. */
bool streams_has_output(struct streams *s, uint32_t process);
/*
 * The process has ended, and all that it wrote has come to the device. streams_owe() says from then
 * on whether some of it is not written yet. What other processes of the guest write to the same
 * streams later does not count.
 */
void streams_mark(struct streams *s, uint32_t process);
bool streams_owe(struct streams *s, uint32_t process);
/* Closes the process's streams that still wait. Connected ones stay until the guest ends them. */
void streams_withdraw(struct streams *s, uint32_t process);
/* Returns the agent's stream, once, if the agent has connected, else -EBADF. */
int streams_take_agent(struct streams *s);

/* Callbacks of struct virtio_vsock_options, in the device's thread. ctx is the struct streams. */
int streams_on_connect(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use);
void streams_on_closed(void *ctx, uint32_t guest_port, uint32_t port);
