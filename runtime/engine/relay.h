/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The relay forwards messages between QEMU and the vhost-user server of a network device. Only for
 * a network device is a relay needed: QEMU's -netdev vhost-user connects to a socket by name and
 * accepts no inherited socket, because only chardevs with a path may pass descriptors. But QEMU can
 * reach no path of the host from its jail. So QEMU connects to a socket in its root at which the
 * monitor listens, and a thread of the monitor forwards each message with its descriptors. Network
 * frames do not pass through the relay, because they are in the guest's memory, and eventfds
 * announce them.
 *
 * 	relay_init(&r, backend)        r.listener is for qemu_jail.h
 * 	relay_meet(&r, ...)            waits for QEMU's connection, once QEMU has been started
 * 	relay_start(&r, &jail, event)  starts the thread, in the jail
 * 	relay_stop(&r)                 stops the thread; tells why the server was lost, if it was
 * 	relay_release(&r)              after relay_stop(), for every relay that was initialised
 */
#pragma once
#include <pthread.h>

#include "jail/jail.h"

/*
 * how long, in ms, the relay waits for an answer of the vhost-user server; as long as the built-in
 * machine waits (VHOST_USER_TIMEOUT_MS)
 */
#define RELAY_TIMEOUT_MS 10000

struct relay {
	int backend;  /* connection to the vhost-user server; the caller closes it */
	int listener; /* socket at which the monitor listens, and to which QEMU connects once */
	int qemu;     /* QEMU's connection to the monitor */
	int stop;     /* eventfd that stops the relay's thread */
	/* the caller's eventfd, readable once the connection to the vhost-user server is lost */
	int lost;
	const struct jail *jail;
	pthread_t thread;
	bool runs;
	int result; /* return value of relay_run(); only the thread uses it until relay_stop() */
	char why[ERR_MAX]; /* error message of relay_run(); only set if `result` is an error */
};

#define RELAY_INIT \
	{ \
		.backend = -EBADF, .listener = -EBADF, .qemu = -EBADF, .stop = -EBADF, \
		.lost = -EBADF \
	}

/*
 * Initialises a relay. `backend` is a connection to a vhost-user server, which the caller keeps
 * open until relay_stop().
 */
int relay_init(struct relay *r, int backend) must_check;
/*
 * Waits until QEMU has connected. ready is a pipe whose other end QEMU's process closes once
 * r->listener listens. If QEMU's process (pidfd) ends before QEMU connects, returns 0 with r->qemu
 * < 0; engine_result() then tells why.
 */
int relay_meet(struct relay *r, int ready, int pidfd, unsigned timeout_ms) must_check;
int relay_start(struct relay *r, const struct jail *jail, int lost) must_check;
/*
 * Stops the relay's thread. Returns why the connection to the vhost-user server was lost, or NULL
 * if it was not lost.
 */
const char *relay_stop(struct relay *r);
void relay_release(struct relay *r);

/*
 * Forwards messages between QEMU and the vhost-user server until one of them hangs up. The relay's
 * thread runs this function. It is declared here for the unit test, which then needs no QEMU.
 * Returns 0 if QEMU hung up or stop_fd is readable. Returns -errno with a message if the server
 * hung up, did not answer within timeout_ms, or broke the protocol.
 */
int relay_run(int qemu, int backend, int stop_fd, unsigned timeout_ms) must_check;
