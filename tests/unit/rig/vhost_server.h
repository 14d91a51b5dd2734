/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user server for a device of the tests' own. The server is a thread of the test's child
 * process; the test plays the front end.
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
	unsigned served, resets, quiesced; /* `served` counts requests, the others count calls */
};

struct server {
	struct front f;
	struct device d;
	pthread_t thread;
	int sock, stop;
	int result;
	char why[ERR_MAX];
};

/* What the server's thread runs: it serves until its socket or its stop descriptor ends it. */
void *server_run(void *arg);

struct server *server_begin(bool with_config);

/*
 * Hangs up and waits until the server has ended. It must have returned `result`, and its message
 * must contain `why` if that is not NULL.
 */
void server_end(struct server *s, int result, const char *why);

/* Makes a request of one letter available on queue 1. */
void server_request(struct server *s, unsigned slot, char what);

bool server_answered(const struct server *s, unsigned slot, const char *text);

uint16_t server_used_index(const struct server *s);

/*
 * Waits until the server has handled all messages so far. It handles them in order, so the answer
 * to one more message shows it.
 */
void server_settle(struct server *s);

void server_check_works(struct server *s);
