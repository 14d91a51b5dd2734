/* SPDX-License-Identifier: Apache-2.0 */
/* Works on arrays of buffers (struct iovec): cuts a range out of an array, or copies a range. */
#pragma once
#include <stdint.h>
#include <sys/uio.h>

/*
 * The bytes [offset, offset + len) of the `count` buffers at iov. The range is shorter if the
 * buffers end before that.
 */
struct iov_range {
	const struct iovec *iov;
	unsigned count;
	uint64_t offset, len;
};

/* Returns the total number of bytes in `count` buffers. */
size_t iov_bytes(const struct iovec *iov, unsigned count);

/*
 * Writes the parts of the range into `ret`, at most `max` entries, and returns how many entries it
 * has used.
 */
unsigned iov_slice(struct iov_range range, struct iovec *ret, unsigned max);

/*
 * iov_read() copies the bytes of the range to `ret_data`, and iov_write() copies `data` into the
 * range. Both functions return the number of bytes copied.
 */
size_t iov_read(struct iov_range range, void *ret_data);
size_t iov_write(struct iov_range range, const void *data);
