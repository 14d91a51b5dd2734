/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sd_notify(3): the runtime relays to its caller's NOTIFY_SOCKET what the container says at its
 * own.
 *
 * Theory of operation. A service manager believes only the process that it started
 * (NotifyAccess=main), so that the runtime must be the sender. The container has a socket of its
 * own in the directory "notify" of the state directory, which is bound into it read-only. `create`
 * makes the directory; `run` and `start` bind the socket in it if they have a NOTIFY_SOCKET
 * themselves, as runc and crun do. In the background they wait for READY=1, say which pid is the
 * service's, and end. In the foreground they relay until the program ends, and tell their own pid
 * as the service's.
 */
#pragma once
#include "launch/container.h"

struct notify {
	int sock;       /* the container's socket; -EBADF: there is nothing to relay */
	int host;       /* connected to the caller's NOTIFY_SOCKET */
	pid_t main_pid; /* the pid of the service, which is told along with READY=1 */
	bool ready;     /* READY=1 was relayed */
};

#define NOTIFY_INIT \
	{ \
		.sock = -EBADF, .host = -EBADF \
	}

void notify_close(struct notify *n);
#define _cleanup_notify_ __attribute__((cleanup(notify_close), unused))

/* Says whether the runtime's environment has a NOTIFY_SOCKET that it can relay to. */
bool notify_is_wanted(void);

/* Makes the directory; `create` calls this. */
int notify_make(struct container *c) must_check;

/*
 * Binds the socket; call it before the program starts. Does nothing if `create` made no directory.
 * If the caller's socket cannot be reached, this is a warning.
 */
int notify_open(struct notify *n, struct container *c) must_check;

/*
 * Relays one message. Returns 1 if there was one, else 0. A message that cannot be sent on is a
 * warning.
 */
int notify_relay(struct notify *n);

/* In the background: relays until READY=1 or until the process ends. */
int notify_wait(struct notify *n, int pidfd) must_check;
