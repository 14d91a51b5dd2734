/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table that has a stream for each vsock port to which the guest may connect. The monitor's loop
 * offers a descriptor at a port, and the thread of the vsock device takes the descriptor when the
 * guest connects to that port.
 *
 * The agent's stream is a socket pair: the vsock device gets one end, and the monitor's loop takes
 * the other end from this table. A process's standard stream is the very descriptor that the caller
 * of the runtime passed. The device reads and writes this descriptor directly, so that nothing is
 * copied on the way.
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
	unsigned stream; /* one of AGENT_STDIN, AGENT_STDOUT, AGENT_STDERR, AGENT_TERMINAL */
	uint32_t port;
	bool errors; /* for AGENT_STDOUT: the stream also carries the process's standard error */
	int fd; /* in the state STREAM_WAITING: the descriptor that the guest's connection gets */
	/* whether streams_mark() has recorded the end of the process's output in this stream */
	bool marked;
	/*
	 * position in the stream, modulo 2^32, up to which the device still has to write the
	 * process's output; set by streams_mark()
	 */
	uint32_t owed;
};

struct virtio_vsock;

struct streams {
	pthread_mutex_t lock;
	/* eventfd, readable when the guest has connected or the device has closed a stream */
	int changed;
	/* the monitor's end of the agent's stream until the loop takes it, else -EBADF */
	int agent;
	/* the vsock device; the engine sets it before the guest runs */
	struct virtio_vsock *device;
	bool agent_met; /* whether the agent has connected, which is allowed only once */
	/*
	 * Whether the agent is a service of an operating system. It has to connect from a port that
	 * only a privileged program of the guest can have, and may connect again, because its
	 * operating system may start it again.
	 */
	bool agent_is_service;
	/* vsock port at which the agent connects; 0: AGENT_PORT, or AGENT_SERVICE_PORT */
	uint32_t agent_port;
	struct stream stream[STREAMS_MAX];
};

int streams_init(struct streams *s) must_check;
void streams_release(struct streams *s);

/*
 * Offers a descriptor to the guest as a stream of the process. On success fd belongs to the stream.
 * If fd is standard error, and standard output was offered before and is the same open file
 * description, the two become one stream, because two streams would not keep the order of their
 * data. Returns -ENOSPC if there are too many streams.
 */
int streams_offer(struct streams *s, uint32_t process, unsigned stream, int fd) must_check;
/*
 * Writes the member "stdio" of the agent's messages (agent/protocol.h): the ports of those streams
 * of the process to which the guest has not connected yet.
 */
void streams_json(struct streams *s, uint32_t process, struct json_out *o);
/*
 * Says whether the process has a stream that still carries output: any stream but standard input.
 */
bool streams_has_output(struct streams *s, uint32_t process);
/*
 * Marks the end of the output of a process. The caller calls this function when the process has
 * ended and all its output has come to the vsock device. From then on streams_owe() says whether
 * the device still has to write some of that output. Later output of other processes in the guest
 * to the same streams does not count.
 */
void streams_mark(struct streams *s, uint32_t process);
bool streams_owe(struct streams *s, uint32_t process);
/*
 * Closes those streams of the process to which the guest has not connected. The other streams of
 * the process stay until the guest ends them.
 */
void streams_withdraw(struct streams *s, uint32_t process);
/* Returns a random vsock port for a stream, which a program in the guest cannot guess. */
uint32_t streams_new_port(void);
/*
 * Returns the monitor's end of the agent's stream if the agent has connected, else -EBADF. Returns
 * the descriptor of each connection only once.
 */
int streams_take_agent(struct streams *s);

/*
 * Callbacks for struct virtio_vsock_options. The vsock device's thread calls these functions. ctx
 * is the struct streams.
 */
int streams_on_connect(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use);
void streams_on_closed(void *ctx, uint32_t guest_port, uint32_t port);
