/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a vhost-user back end in a thread. It answers every request as the specification demands,
 * except for one request of the test's choice, to which it gives a wrong answer or none. It serves
 * no queue.
 */
#pragma once
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vm/vhost/proto.h"

enum misdeed {
	GOOD,
	WRONG_REQUEST,
	WRONG_FLAGS,
	WRONG_VERSION,
	SHORT_PAYLOAD,
	LARGE_PAYLOAD,
	HUGE_PAYLOAD,
	SILENT,
	HANGS_UP,
	HALF_AN_ANSWER,
	WITH_FDS,
	REFUSES,
	/* sends an answer byte by byte: each byte comes in time, but the whole answer is late */
	TRICKLES,
	WRONG_CONTENT,
	TALKS_ON, /* sends the right answer, and then an answer for which there was no request */
};

struct back {
	int sock; /* the back end's end of the socket pair */
	uint64_t features, protocol, queues;
	/*
	 * the request, by its number in vhost-user, at which the back end misbehaves as `how` says
	 */
	uint32_t at;
	enum misdeed how;
	/* number of requests received, and of descriptors received with them, indexed by request */
	unsigned seen[64], fds[64];
	uint32_t base[2]; /* value of the last SET_VRING_BASE of each queue */
	uint64_t set_features;
	uint8_t config[VHOST_USER_CONFIG_MAX];
	pthread_t thread;
};

#define BACK_V1 (UINT64_C(1) << 32)
#define BACK_PROTOCOL_BIT (UINT64_C(1) << VHOST_USER_F_PROTOCOL_FEATURES)
#define BACK_RINGS (3ULL << 28) /* feature bits for indirect descriptors and event index */
#define BACK_MQ 1U
#define BACK_ACK 8U
#define BACK_CONFIG 0x200U
#define BACK_INFLIGHT 0x1000U

void back_send(const struct back *b, const void *data, size_t len, bool with_fd);

struct back_message {
	uint32_t unused; /* aligns the header so that no padding comes between header and payload */
	struct vhost_user_header h;
	union vhost_user_payload p;
};

/* Receives a message. Returns false if the front end has hung up. */
bool back_receive(struct back *b, struct back_message *m);

/* Turns the request *m into its answer. Returns false if this request has no answer. */
bool back_answer(struct back *b, struct back_message *m);

/*
 * Starts the thread of the back end, which offers the features that *b has. Returns the front end's
 * end of the socket.
 */
int back_start(struct back *b);

/* Closes *sock, which makes the thread end, and waits for the thread. */
void back_end(struct back *b, int *sock);
