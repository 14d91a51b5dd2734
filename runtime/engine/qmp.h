/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's machine protocol (QMP): lines of JSON over a socket that does not block. The guest may
 * have taken over QEMU, so the monitor trusts nothing that it reads: a line that is too long or no
 * JSON is dropped.
 */
#pragma once
#include "base/json.h"

#define QMP_LINE_MAX 16384

struct qmp {
	int sock;   /* the socket, which the caller closes */
	size_t len; /* how many bytes of `text` are read and not yet used */
	bool drops; /* the rest of a line that is too long is being dropped */
	char text[QMP_LINE_MAX];
};

/* Sends a command, a line of JSON that ends in a newline. */
int qmp_send(const struct qmp *q, const char *command) must_check;

/*
 * Reads the next message into *ret, which is in the arena. Returns 1 if there is one, 0 if no whole
 * line has come yet, or -EPIPE, without a message, if QEMU has closed the socket.
 */
int qmp_next(struct qmp *q, struct arena *a, struct json **ret) must_check;
