/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the reader of QEMU's messages. It must take any bytes, return no more messages than there
 * are lines, and read to the end.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/qmp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct qmp q;
	_cleanup_fd_ int fd = memfd_create("messages", MFD_CLOEXEC);
	size_t lines = 0, messages = 0;
	int r = 1;

	if (fd < 0 || write(fd, data, size) != (ssize_t)size || lseek(fd, 0, SEEK_SET) < 0)
		return 0;
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	q.sock = fd;
	q.len = 0;
	q.drops = false;
	while (r > 0) {
		_cleanup_arena_ struct arena a = {0};
		struct json *message = NULL;

		r = qmp_next(&q, &a, &message);
		if (r > 0 && (!message || ++messages > lines))
			abort();
	}
	if (r != -EPIPE)
		abort();
	return 0;
}
