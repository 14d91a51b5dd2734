/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Relays the container's service reports (sd_notify(3)) to the NOTIFY_SOCKET of the runtime's
 * caller.
 *
 * Theory of operation. A service manager accepts reports only from the process that it started
 * (NotifyAccess=main), so the runtime must be the sender. The container has a socket of its own in
 * the directory "notify" of the state directory, which is bind-mounted into the container
 * read-only. `create` makes the directory. `run` and `start` bind the socket in it if they have a
 * NOTIFY_SOCKET themselves, as in runc and crun. If they do not stay in the foreground, they wait
 * for READY=1, tell the service manager the pid of the container's process, and end. In the
 * foreground they relay until the program ends, and give their own pid as the service's.
 */
#pragma once
#include "launch/container.h"

struct notify {
	int sock; /* the socket to which the container sends reports; -EBADF: nothing is relayed */
	int host; /* socket that is connected to the caller's NOTIFY_SOCKET */
	/*
	 * pid of the service's main process, which the service manager is told along with READY=1
	 */
	pid_t main_pid;
	bool ready; /* whether a report with READY=1 was relayed */
};

#define NOTIFY_INIT \
	{ \
		.sock = -EBADF, .host = -EBADF \
	}

void notify_close(struct notify *n);
#define _cleanup_notify_ __attribute__((cleanup(notify_close), unused))

/*
 * Says whether the runtime's environment has a NOTIFY_SOCKET to which it can relay the container's
 * reports.
 */
bool notify_is_wanted(void);

/*
 * Makes the directory for the container's socket for service reports. `create` calls this function.
 */
int notify_make(struct container *c) must_check;

/*
 * Binds the container's socket for service reports. The caller calls this function before the
 * program starts. Does nothing if `create` made no directory for the socket. If the socket of the
 * runtime's caller cannot be reached, only logs a warning.
 */
int notify_open(struct notify *n, struct container *c) must_check;

/*
 * Relays one message of the container to the service manager. Returns 1 if there was a message,
 * else 0. If the message cannot be sent on, a warning is logged.
 */
int notify_relay(struct notify *n);

/*
 * Relays the container's messages until READY=1 has come or the process has ended. A runtime that
 * does not stay in the foreground calls this function.
 */
int notify_wait(struct notify *n, int pidfd) must_check;
