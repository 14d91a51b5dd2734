/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sd_notify(3): what the container says at its own NOTIFY_SOCKET is relayed to the caller's.
 *
 * Theory of operation. A service manager believes the process that it started, and no other
 * (NotifyAccess=main): so the runtime is the one who speaks. The container finds a socket of its
 * own in the directory "notify" of the state directory, bound into it read-only. `create` makes the
 * directory; `run` and `start`, if they have a NOTIFY_SOCKET themselves, bind the socket in it, as
 * runc and crun do. In the background they wait for READY=1, say whose pid the service's is, and
 * end; in the foreground they relay until the program ends, and the service's pid is theirs.
 */
#pragma once
#include "launch/container.h"

struct notify {
	int sock;       /* what the container says; -EBADF: there is nothing to relay */
	int host;       /* connected to the caller's NOTIFY_SOCKET */
	pid_t main_pid; /* the service's, told along with READY=1 */
	bool ready;     /* READY=1 was relayed */
};

#define NOTIFY_INIT \
	{ \
		.sock = -EBADF, .host = -EBADF \
	}

void notify_close(struct notify *n);
#define _cleanup_notify_ __attribute__((cleanup(notify_close), unused))

/* Whether our own environment has a NOTIFY_SOCKET that can be relayed to. */
bool notify_is_wanted(void);

/* create: the directory. */
int notify_make(struct container *c) must_check;

/* Before the program starts: binds the socket. Where `create` made no directory there is nothing to
 * do. A caller's socket that can't be reached is a warning. */
int notify_open(struct notify *n, struct container *c) must_check;

/* Relays one message, if there is one: 1, else 0. What can't be sent on is a warning. */
int notify_relay(struct notify *n);

/* In the background: relays until READY=1, or until the process ends. */
int notify_wait(struct notify *n, int pidfd) must_check;
