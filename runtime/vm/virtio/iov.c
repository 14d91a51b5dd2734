/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtio/iov.h"

#include <stdbool.h>
#include <string.h>

/*
 * Takes the next part off the front of the range. The part is never empty. Returns false if nothing
 * is left.
 */
static bool next_part(struct iov_range *range, struct iovec *ret)
{
	for (; range->count > 0 && range->len > 0; range->iov++, range->count--) {
		const struct iovec *buffer = range->iov;

		if (range->offset >= buffer->iov_len) {
			range->offset -= buffer->iov_len;
			continue;
		}
		size_t part = buffer->iov_len - range->offset;
		part = part < range->len ? part : (size_t)range->len;
		*ret = (struct iovec){(uint8_t *)buffer->iov_base + range->offset, part};
		range->offset += part;
		range->len -= part;
		return true;
	}
	return false;
}

size_t iov_bytes(const struct iovec *iov, unsigned count)
{
	size_t len = 0;

	for (unsigned i = 0; i < count; i++)
		len += iov[i].iov_len;
	return len;
}

unsigned iov_slice(struct iov_range range, struct iovec *ret, unsigned max)
{
	unsigned n = 0;

	while (n < max && next_part(&range, &ret[n]))
		n++;
	return n;
}

size_t iov_read(struct iov_range range, void *ret_data)
{
	struct iovec part;
	size_t done = 0;

	for (; next_part(&range, &part); done += part.iov_len)
		memcpy((uint8_t *)ret_data + done, part.iov_base, part.iov_len);
	return done;
}

size_t iov_write(struct iov_range range, const void *data)
{
	struct iovec part;
	size_t done = 0;

	for (; next_part(&range, &part); done += part.iov_len)
		memcpy(part.iov_base, (const uint8_t *)data + done, part.iov_len);
	return done;
}
