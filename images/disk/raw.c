/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the raw format: the file's bytes are the disk's. A size that is no multiple of 512
 * bytes is rounded up, as in QEMU, and the missing bytes read as zeros.
 */
#include <linux/falloc.h>
#include <sys/stat.h>

#include "images/disk/format.h"

#define SECTOR 512

struct raw {
	bool device; /* the file is a block device, which has no holes and a fixed size */
};

static int raw_open(struct disk *d, const struct disk_options *o)
{
	struct raw *raw = calloc(1, sizeof(*raw));
	struct stat st;

	d->state = raw;
	if (!raw)
		return disk_err(d, ENOMEM, "no memory");
	int r = disk_file_size(d, &d->size);
	if (r < 0)
		return r;
	if (fstat(d->fd, &st) < 0)
		return err_sys("%s: stat", d->name);
	raw->device = S_ISBLK(st.st_mode);
	d->size = (d->size + SECTOR - 1) / SECTOR * SECTOR;
	return 0;
}

static void raw_close(struct disk *d)
{
	free(d->state);
}

static int raw_map(struct disk *d, uint64_t offset, uint64_t length, struct disk_extent *ret)
{
	const struct raw *raw = d->state;

	ret->kind = DISK_DATA;
	ret->fd = d->fd;
	ret->host = offset;
	if (raw->device)
		return 0;
	off_t data = lseek(d->fd, (off_t)offset, SEEK_DATA);
	if (data < 0 && errno == ENXIO) {
		ret->kind = DISK_ZERO;
		return 0;
	}
	/* If the file system cannot report holes, the whole range counts as data. */
	if (data < 0)
		return 0;
	off_t end = data;
	if ((uint64_t)data > offset)
		ret->kind = DISK_ZERO;
	else if ((end = lseek(d->fd, (off_t)offset, SEEK_HOLE)) < 0)
		return 0;
	if ((uint64_t)end - offset < length && (uint64_t)end > offset)
		ret->length = (uint64_t)end - offset;
	return 0;
}

static int raw_read(struct disk *d, const struct iovec *iov, int n, uint64_t offset)
{
	const struct iov_part part = {iov, n, 0};

	int r = iov_part_read(&part, iov_length(iov, n), d->fd, offset);
	if (r < 0)
		return disk_err(
			d, -r, "read at offset %llu: %s", (unsigned long long)offset, err_text(-r));
	return 0;
}

static int raw_write(struct disk *d, const struct iovec *iov, int n, uint64_t offset)
{
	const struct iov_part part = {iov, n, 0};

	int r = iov_part_write(&part, iov_length(iov, n), d->fd, offset);
	if (r < 0)
		return disk_err(d, -r, "write at offset %llu: %s", (unsigned long long)offset,
			err_text(-r));
	return 0;
}

static int write_zeros(struct disk *d, uint64_t offset, uint64_t length)
{
	static const uint8_t zeros[64 * 1024];

	while (length > 0) {
		size_t here = length < sizeof(zeros) ? (size_t)length : sizeof(zeros);
		int r = io_write(d->fd, zeros, here, offset);

		if (r < 0)
			return disk_err(d, -r, "write zeros at offset %llu: %s",
				(unsigned long long)offset, err_text(-r));
		offset += here;
		length -= here;
	}
	return 0;
}

static int raw_fallocate(struct disk *d, uint64_t offset, uint64_t length, bool punch)
{
	int mode = punch ? FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
			 : FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
	int r;

	do
		r = fallocate(d->fd, mode, (off_t)offset, (off_t)length);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static bool not_supported(int r)
{
	return r == -EOPNOTSUPP || r == -ENODEV || r == -EINVAL || r == -ENOSYS;
}

static int raw_zero(struct disk *d, uint64_t offset, uint64_t length)
{
	int r = raw_fallocate(d, offset, length, d->discard_zeroed);

	if (not_supported(r))
		r = raw_fallocate(d, offset, length, !d->discard_zeroed);
	if (not_supported(r))
		return write_zeros(d, offset, length);
	if (r < 0)
		return disk_err(d, -r, "zero %llu bytes at offset %llu: %s",
			(unsigned long long)length, (unsigned long long)offset, err_text(-r));
	return 0;
}

static int raw_discard(struct disk *d, uint64_t offset, uint64_t length)
{
	int r = raw_fallocate(d, offset, length, true);

	if (r < 0 && !not_supported(r))
		return disk_err(d, -r, "discard %llu bytes at offset %llu: %s",
			(unsigned long long)length, (unsigned long long)offset, err_text(-r));
	return 0;
}

static int raw_flush(struct disk *d)
{
	return disk_sync(d, d->fd, "");
}

static int raw_resize(struct disk *d, uint64_t size)
{
	const struct raw *raw = d->state;

	if (raw->device)
		return disk_err(d, EOPNOTSUPP, "a block device's size cannot be changed here");
	if (size > INT64_MAX || ftruncate(d->fd, (off_t)size) < 0)
		return err_sys("%s: set the size to %llu", d->name, (unsigned long long)size);
	return 0;
}

const struct disk_format format_raw = {
	.name = "raw",
	.can_write = true,
	.open = raw_open,
	.close = raw_close,
	.map = raw_map,
	.read = raw_read,
	.write = raw_write,
	.zero = raw_zero,
	.discard = raw_discard,
	.flush = raw_flush,
	.resize = raw_resize,
};
