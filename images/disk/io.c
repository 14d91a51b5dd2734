/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies between the buffers of a request, and reads and writes all of a buffer at an offset of a
 * file.
 */
#include <limits.h>

#include "base/interrupt.h"
#include "images/disk/format.h"

#define RESERVE_PIECE (UINT64_C(1) << 28)

/*
 * How many buffers one system call gets at most. A request of a guest has up to 254 buffers
 * (SEGMENTS_MAX in runtime/vm/virtio/blk.c), because the pages of its memory are scattered.
 */
#define IOV_BATCH 256

uint64_t iov_length(const struct iovec *iov, int n)
{
	uint64_t sum = 0;

	for (int i = 0; i < n; i++)
		sum += iov[i].iov_len;
	return sum;
}

void iov_part_skip(struct iov_part *p, size_t len)
{
	p->skip += len;
	while (p->n > 0 && p->skip >= p->iov->iov_len) {
		p->skip -= p->iov->iov_len;
		p->iov++;
		p->n--;
	}
}

enum copy { COPY_GET, COPY_PUT, COPY_CLEAR };

static void iov_copy(const struct iov_part *p, uint8_t *buf, size_t len, enum copy what)
{
	size_t skip = p->skip;

	for (int i = 0; i < p->n && len > 0; i++) {
		uint8_t *at = (uint8_t *)p->iov[i].iov_base + skip;
		size_t here = p->iov[i].iov_len - skip;

		if (here > len)
			here = len;
		skip = 0;
		if (what == COPY_CLEAR) {
			memset(at, 0, here);
		} else if (here > 0) {
			memcpy(what == COPY_GET ? buf : at, what == COPY_GET ? at : buf, here);
			buf += here;
		}
		len -= here;
	}
}

void iov_part_get(const struct iov_part *p, void *buf, size_t len)
{
	iov_copy(p, buf, len, COPY_GET);
}

void iov_part_put(const struct iov_part *p, const void *buf, size_t len)
{
	/*
	 * The cast removes const, because the parameter of iov_copy() is not const. That does no
	 * harm, because with COPY_PUT the function only reads the buffer.
	 */
	iov_copy(p, (uint8_t *)(uintptr_t)buf, len, COPY_PUT);
}

void iov_part_clear(const struct iov_part *p, size_t len)
{
	iov_copy(p, NULL, len, COPY_CLEAR);
}

/*
 * Writes the first `len` bytes of the part as an array of at most IOV_BATCH buffers to `out`, and
 * returns the number of buffers.
 */
static int iov_part_slice(const struct iov_part *p, size_t len, struct iovec *out)
{
	size_t skip = p->skip;
	int n = 0;

	for (int i = 0; i < p->n && len > 0 && n < IOV_BATCH; i++) {
		size_t here = p->iov[i].iov_len - skip;

		if (here > len)
			here = len;
		out[n].iov_base = (uint8_t *)p->iov[i].iov_base + skip;
		out[n++].iov_len = here;
		skip = 0;
		len -= here;
	}
	return n;
}

static int iov_part_transfer(struct iov_part p, size_t len, int fd, uint64_t offset, bool write)
{
	struct iovec v[IOV_BATCH];

	while (len > 0) {
		if (offset > INT64_MAX)
			return -EFBIG;
		int n = iov_part_slice(&p, len, v);
		ssize_t done =
			write ? pwritev(fd, v, n, (off_t)offset) : preadv(fd, v, n, (off_t)offset);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0)
			return -errno;
		if (done == 0 && write)
			return -ENOSPC;
		if (done == 0) {
			iov_part_clear(&p, len);
			return 0;
		}
		iov_part_skip(&p, (size_t)done);
		offset += (uint64_t)done;
		len -= (size_t)done;
	}
	return 0;
}

int iov_part_read(const struct iov_part *p, size_t len, int fd, uint64_t offset)
{
	return iov_part_transfer(*p, len, fd, offset, false);
}

int iov_part_write(const struct iov_part *p, size_t len, int fd, uint64_t offset)
{
	return iov_part_transfer(*p, len, fd, offset, true);
}

int io_read(int fd, void *buf, size_t len, uint64_t offset)
{
	struct iovec v = {buf, len};

	return iov_part_transfer((struct iov_part){&v, 1, 0}, len, fd, offset, false);
}

int io_write(int fd, const void *buf, size_t len, uint64_t offset)
{
	/*
	 * The cast removes const, because the pointer in struct iovec is not const. That does no
	 * harm, because a write only reads the buffer.
	 */
	struct iovec v = {(void *)(uintptr_t)buf, len};

	return iov_part_transfer((struct iov_part){&v, 1, 0}, len, fd, offset, true);
}

/*
 * One piece is reserved after the other, because on a file system without fallocate(2) the C
 * library writes to each block, which takes long.
 */
int disk_reserve(int fd, const char *name, uint64_t size, int interrupt)
{
	for (uint64_t at = 0; at < size; at += RESERVE_PIECE) {
		uint64_t n = size - at < RESERVE_PIECE ? size - at : RESERVE_PIECE;
		int r = interrupt_read(interrupt);

		if (r < 0)
			return r;
		r = posix_fallocate(fd, (off_t)at, (off_t)n);
		if (r)
			return err_set(r, "%s: reserve %llu bytes: %s", name,
				(unsigned long long)size, err_text(r));
	}
	return 0;
}
