/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays of buffers (struct iovec): cut a range out of one, or copy a range from or to one. */
#pragma once
#include <stdint.h>
#include <sys/uio.h>

/* The bytes [offset, offset + len) of the `count` buffers at iov, as far as there are so many. */
struct iov_range {
	const struct iovec *iov;
	unsigned count;
	uint64_t offset, len;
};

/* The number of bytes in `count` buffers. */
size_t iov_bytes(const struct iovec *iov, unsigned count);

/* Gives the parts of the range in up to `max` entries of ret, and returns how many these are. */
unsigned iov_slice(struct iov_range range, struct iovec *ret, unsigned max);

/* Copy the range to `data`, or `data` to the range. They return the number of bytes copied. */
size_t iov_read(struct iov_range range, void *ret_data);
size_t iov_write(struct iov_range range, const void *data);
