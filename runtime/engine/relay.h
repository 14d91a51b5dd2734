/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between QEMU and the vhost-user back end of a network device. QEMU's -netdev vhost-user takes a
 * socket that it connects itself, by name, but none that it inherits (of its chardevs only those
 * with a path may pass descriptors). It can reach no name of the host's, and has not the rights for
 * it. So there is a socket of ours in its root, and what it says there is handed on, a message at a
 * time, with the descriptors. Frames do not come by here: they are in guest memory, and kicks and
 * interrupts are eventfds.
 *
 *	relay_init(&r, backend)        r.listener is for jail_qemu.h
 *	relay_meet(&r, ...)            once QEMU has been started
 *	relay_start(&r, &jail, event)  its thread, in the jail
 *	relay_end(&r)                  why the back end was lost, if it was
 *	relay_release(&r)              after relay_end(); any that was initialised
 */
#pragma once
#include <pthread.h>

#include "jail/jail.h"

#define RELAY_TIMEOUT_MS 10000 /* of an answer, as VHOST_USER_TIMEOUT_MS */

struct relay {
	int backend;  /* the caller's */
	int listener; /* for QEMU to connect to, once */
	int qemu;     /* and then this */
	int stop;     /* eventfd */
	int lost;     /* the caller's eventfd: the back end is */
	const struct jail *jail;
	pthread_t thread;
	bool runs;
	int result;        /* the thread's until relay_end() */
	char why[ERR_MAX]; /* where that is an error */
};

#define RELAY_INIT \
	{ \
		.backend = -EBADF, .listener = -EBADF, .qemu = -EBADF, .stop = -EBADF, \
		.lost = -EBADF \
	}

/* backend: connected, and open until relay_end(). */
int relay_init(struct relay *r, int backend) must_check;
/*
 * Waits for QEMU's connection. ready: reads to its end once r->listener listens. Without one after
 * 0 is returned QEMU (pidfd) has ended, which has a reason of its own.
 */
int relay_meet(struct relay *r, int ready, int pidfd, unsigned timeout_ms) must_check;
int relay_start(struct relay *r, const struct jail *jail, int lost) must_check;
/* Stops it. NULL: the back end was not lost before that. */
const char *relay_end(struct relay *r);
void relay_release(struct relay *r);

/*
 * The thread's work. Returns when one side hangs up or stop_fd is readable. 0: QEMU has gone, or
 * that. < 0 with a message: the back end has gone, keeps silent for timeout_ms when it is asked, or
 * breaks the protocol.
 */
int relay_run(int qemu, int backend, int stop_fd, unsigned timeout_ms) must_check;
