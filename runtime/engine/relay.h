/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay hands messages on between QEMU and the vhost-user server of a network device. QEMU's
 * -netdev vhost-user connects to a socket by name and takes no inherited one, because only chardevs
 * with a path may pass descriptors. But QEMU can reach no name of the host's from its jail. So QEMU
 * connects to a socket of ours in its root, and a thread here hands each message on with its
 * descriptors. Network frames do not pass through here: they are in the guest's memory, and
 * eventfds tell of them.
 *
 *	relay_init(&r, backend)        r.listener is for qemu_jail.h
 *	relay_meet(&r, ...)            waits for QEMU's connection, once QEMU has been started
 *	relay_start(&r, &jail, event)  starts the thread, in the jail
 *	relay_stop(&r)                 stops the thread; tells why the server was lost, if it was
 *	relay_release(&r)              after relay_stop(), for every relay that was initialised
 */
#pragma once
#include <pthread.h>

#include "jail/jail.h"

#define RELAY_TIMEOUT_MS 10000 /* for an answer; the same as VHOST_USER_TIMEOUT_MS */

struct relay {
	int backend;  /* the connection to the server, which stays the caller's */
	int listener; /* a socket that QEMU connects to, once */
	int qemu;     /* the connection to QEMU */
	int stop;     /* an eventfd that stops the thread */
	int lost;     /* the caller's eventfd; readable once the server is lost */
	const struct jail *jail;
	pthread_t thread;
	bool runs;
	int result;        /* of relay_run(); belongs to the thread until relay_stop() */
	char why[ERR_MAX]; /* the message, if that is an error */
};

#define RELAY_INIT \
	{ \
		.backend = -EBADF, .listener = -EBADF, .qemu = -EBADF, .stop = -EBADF, \
		.lost = -EBADF \
	}

/* backend: a connection to the server, which must stay open until relay_stop(). */
int relay_init(struct relay *r, int backend) must_check;
/*
 * Waits for QEMU's connection. ready: a pipe whose end comes once r->listener listens. Returns 0
 * with r->qemu < 0 if QEMU (pidfd) has ended instead; engine_result() then tells why.
 */
int relay_meet(struct relay *r, int ready, int pidfd, unsigned timeout_ms) must_check;
int relay_start(struct relay *r, const struct jail *jail, int lost) must_check;
/* Stops the thread. Returns why the server was lost before that, or NULL if it was not. */
const char *relay_stop(struct relay *r);
void relay_release(struct relay *r);

/*
 * The thread's work; public for the unit test, which needs no QEMU this way. Returns 0 when QEMU
 * hangs up or stop_fd is readable, < 0 with a message when the server hangs up, does not answer
 * within timeout_ms, or breaks the protocol.
 */
int relay_run(int qemu, int backend, int stop_fd, unsigned timeout_ms) must_check;
