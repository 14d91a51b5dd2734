/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's machine protocol (QMP): lines of JSON over a socket that does not block. The guest may
 * have taken over QEMU, so the monitor trusts nothing that it reads: a line that is too long or no
 * JSON is dropped.
 */
#pragma once
#include "base/json.h"

#define QMP_LINE_MAX 16384
/* how often qmp_next() reads from the socket until it returns 0, whatever is left to read */
#define QMP_READS_MAX 16u

struct qmp {
	int sock;       /* the socket, which the caller closes */
	size_t len;     /* how many bytes of `text` are read and not yet used */
	bool drops;     /* the rest of a line that is too long is being dropped */
	unsigned reads; /* how often was read since qmp_next() has returned 0 */
	char text[QMP_LINE_MAX];
};

/* Sends a command, a line of JSON that ends in a newline. */
int qmp_send(const struct qmp *q, const char *command) must_check;

/*
 * Reads the next message into *ret, which is in the arena. Returns 1 if there is one, 0 if no whole
 * line has come yet, or -EPIPE, without a message, if QEMU has closed the socket. It also returns 0
 * after QMP_READS_MAX reads, so that a QEMU which never stops to send does not keep the caller from
 * its other work. What is left then is in the socket, so poll(2) tells of it.
 */
int qmp_next(struct qmp *q, struct arena *a, struct json **ret) must_check;
