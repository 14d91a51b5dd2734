/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel between the runtime and INIT is a SOCK_SEQPACKET pair that carries one message at a
 * time. A message says that the sender has reached a barrier, or brings a descriptor (the terminal,
 * a seccomp listener), or names the process that INIT's FORK made, or is a line for the log, or
 * reports INIT's failure with its text. If the channel ends without a failure, INIT has become the
 * program, because execve(2) closes INIT's side.
 *
 * INIT may be under the container's system call filter, so that it sends and receives by write(2)
 * and read(2) all that comes without a descriptor.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"

#define CHANNEL_HELLO "hello" /* the first message of an INIT that hides late: ns/ns.h */

enum channel_type {
	CHANNEL_REACHED = 1,
	CHANNEL_FD,
	CHANNEL_FORKED, /* code: the pid, as the runtime's pid namespace has it */
	CHANNEL_LOG,    /* code: enum log_level */
	CHANNEL_FAILED,
};

struct channel_msg {
	uint32_t type;
	int32_t code;  /* CHANNEL_FAILED: -errno */
	uint64_t time; /* CLOCK_MONOTONIC, ns */
	char text[ERR_MAX];
};

int channel_pair(int ret_fds[2]) must_check;
/* The same by write(2), for INIT; raises SIGPIPE if the other side has gone. fd: a pipe too. */
int channel_write(int fd, enum channel_type type, int code, const char *text) must_check;

int channel_send(int sock, enum channel_type type, int code, const char *text, int fd) must_check;

/*
 * Receives one message. Returns 1, or 0 at the end of the channel. *ret_fd is the descriptor that
 * came with the message, or -EBADF. A malformed message is an error, because the other side may be
 * in a container.
 */
int channel_recv(int sock, struct channel_msg *ret, int *ret_fd) must_check;

/* Sends the message that this side has reached the barrier. */
int channel_report(int sock, const char *barrier) must_check;

/* Writes the line of a CHANNEL_LOG message to this process's log. */
void channel_log(const struct channel_msg *m);

/*
 * Says whether len bytes are a message that a process which may be the container's can have sent.
 */
bool channel_is_valid(const struct channel_msg *m, size_t len);

/*
 * Receives the message that the runtime has reached this barrier; any other message is an error.
 * Returns 1, or 0 at the end of the channel.
 */
int channel_await(int sock, const char *barrier) must_check;

/*
 * The same for a process that the runtime waits for. The process exits with 1 if the channel has
 * ended, because the runtime has failed or was killed, and no one is left to be told.
 */
int channel_await_or_exit(int sock, const char *barrier) must_check;
