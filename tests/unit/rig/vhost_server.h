/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user server that serves a device made up by the tests. The server is a thread of the
 * test's child process; the test plays the front end.
 */
#pragma once
#include <pthread.h>

#include "unit/rig/vhost_front.h"
#include "vm/vhost/back.h"

#define PROTOCOL_REPLY_ACK 8
#define PROTOCOL_CONFIG (1 << 9)
#define PROTOCOL_RESET (1 << 13)
#define HELD_MAX 16

/*
 * A device that answers a request 'E' at once and holds a request 'H' until its event_fd is
 * readable.
 */
struct device {
	struct virtio_device dev;
	struct virtq_chain chain;
	struct {
		unsigned queue;
		struct virtq_chain chain;
	} held[HELD_MAX];
	unsigned held_count;
	uint8_t config[16];
	/*
	 * number of requests that the device has served, and of calls of its reset() and quiesce()
	 */
	unsigned served, resets, quiesced;
};

struct server {
	struct front f;
	struct device d;
	pthread_t thread;
	int sock, stop;
	int result;
	char why[ERR_MAX];
};

/*
 * The function of the server's thread: it serves until its socket is closed or its stop descriptor
 * is readable.
 */
void *server_run(void *arg);

struct server *server_begin(bool with_config);

/*
 * Hangs up and waits until the server has ended. Checks that the server returned `result` and, if
 * `why` is not NULL, that its message contains `why`.
 */
void server_end(struct server *s, int result, const char *why);

/* Makes a request available on queue 1. The request is the letter `what`. */
void server_request(struct server *s, unsigned slot, char what);

bool server_answered(const struct server *s, unsigned slot, const char *text);

uint16_t server_used_index(const struct server *s);

/*
 * Waits until the server has handled all messages that were sent so far. The server handles
 * messages in order, so the function sends a message that needs an answer, and waits for this
 * answer.
 */
void server_settle(struct server *s);

void server_check_works(struct server *s);
