/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qmp.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int qmp_send(const struct qmp *q, const char *command)
{
	size_t len = strlen(command);

	return write(q->sock, command, len) == (ssize_t)len ? 0 : err_sys("send QEMU a command");
}

/* Removes the first n bytes of q->text. */
static void use_bytes(struct qmp *q, size_t n)
{
	q->len -= n;
	memmove(q->text, q->text + n, q->len);
}

/*
 * Takes the next whole line out of q->text. Returns 1 if it is JSON, 0 if it is not or has to be
 * dropped, or -EAGAIN if no whole line is there.
 */
static int take_line(struct qmp *q, struct arena *a, struct json **ret)
{
	const char *end = memchr(q->text, '\n', q->len);

	if (!end && q->len == sizeof(q->text)) {
		q->drops = true;
		q->len = 0;
	}
	if (!end)
		return -EAGAIN;
	size_t line = (size_t)(end - q->text);
	int r = q->drops ? -EINVAL : json_parse(a, q->text, line, "QEMU's message", ret);
	q->drops = false;
	use_bytes(q, line + 1);
	return r >= 0;
}

int qmp_next(struct qmp *q, struct arena *a, struct json **ret)
{
	for (;;) {
		int r = take_line(q, a, ret);
		if (r > 0)
			return r;
		if (r == 0)
			continue;
		ssize_t n = -1;
		if (q->reads++ < QMP_READS_MAX) {
			n = read(q->sock, q->text + q->len, sizeof(q->text) - q->len);
			if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
				return -EPIPE;
		}
		if (n < 0) {
			q->reads = 0;
			return 0;
		}
		q->len += (size_t)n;
	}
}
