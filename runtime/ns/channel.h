/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel between the runtime and INIT: a SOCK_SEQPACKET pair, one message at a time. What may
 * be on it: "I got there" (a barrier's name), a descriptor (the terminal, a seccomp listener), or
 * INIT's failure with its message. The end of the channel without a failure is INIT's success:
 * execve(2) closed it.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"

enum channel_type { CHANNEL_REACHED = 1, CHANNEL_FD, CHANNEL_FAILED };

struct channel_msg {
	uint32_t type;
	int32_t code; /* CHANNEL_FAILED: -errno */
	char text[ERR_MAX];
};

int channel_pair(int ret_fds[2]) must_check;
int channel_send(int sock, enum channel_type type, int code, const char *text, int fd) must_check;

/*
 * Receives one message: 1, or 0 at the end. *ret_fd: the descriptor that came with it, or -EBADF.
 * What is not a message of ours is an error: the other side of the channel may be in a container.
 */
int channel_recv(int sock, struct channel_msg *ret, int *ret_fd) must_check;

/* Receives "I got there" of the runtime, at this barrier and no other: 1, or 0 at the end. */
int channel_await(int sock, const char *barrier) must_check;
