/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtio/blk_file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "vm/virtio/iov.h"

#define BOUNCE_LEN (UINT64_C(256) << 10)
#define ALIGN_MAX 65536

enum direction { FROM_DISK, TO_DISK, ZEROES };

static struct blk_file *file_of(struct blk_image *i)
{
	return (struct blk_file *)i;
}

/* Transfers all `len` bytes, or fails. A read that reaches the end of the file fails. */
static int transfer_fully(
	const struct blk_file *f, bool write, uint8_t *data, size_t len, uint64_t at)
{
	for (size_t done = 0; done < len;) {
		off_t where = (off_t)(at + done);
		ssize_t r = write ? pwrite(f->fd, data + done, len - done, where)
				  : pread(f->fd, data + done, len - done, where);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		done += (size_t)r;
	}
	return 0;
}

/*
 * Transfers the data through f->bounce in whole blocks, for requests that are not aligned. Reads a
 * block before it writes a part of the block. `data` covers the whole request; it is not used if
 * `how` is ZEROES.
 */
static int transfer_bounced(
	struct blk_file *f, enum direction how, struct iov_range data, uint64_t at)
{
	const uint64_t mask = f->align - 1, len = data.len;

	for (uint64_t done = 0; done < len;) {
		uint64_t start = at + done, skip = start & mask;
		uint64_t part = len - done < BOUNCE_LEN - skip ? len - done : BOUNCE_LEN - skip;
		size_t span = (size_t)((skip + part + mask) & ~mask);
		uint64_t block = start - skip;
		const struct iov_range piece = {data.iov, data.count, done, part};
		int r = 0;

		if (how == FROM_DISK || part != span)
			r = transfer_fully(f, false, f->bounce, span, block);
		if (how == FROM_DISK && r == 0)
			iov_write(piece, f->bounce + skip);
		if (how == TO_DISK)
			iov_read(piece, f->bounce + skip);
		if (how == ZEROES)
			memset(f->bounce + skip, 0, part);
		if (how != FROM_DISK && r == 0)
			r = transfer_fully(f, true, f->bounce, span, block);
		if (r < 0)
			return r;
		done += part;
	}
	return 0;
}

static bool is_aligned(const struct blk_file *f, const struct iovec *iov, unsigned n, uint64_t at)
{
	uint64_t bits = at;

	for (unsigned i = 0; i < n; i++)
		bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
	return (bits & (f->align - 1)) == 0;
}

/*
 * Transfers the data of a request, repeating the system call until all is done, because readv(2)
 * and writev(2) stop early at signals and at 2 GiB.
 */
static int transfer(struct blk_file *f, bool write, struct iovec *iov, unsigned n, uint64_t at)
{
	if (!is_aligned(f, iov, n, at))
		return transfer_bounced(f, write ? TO_DISK : FROM_DISK,
			(struct iov_range){iov, n, 0, iov_bytes(iov, n)}, at);
	while (n > 0) {
		ssize_t r = write ? pwritev(f->fd, iov, (int)n, (off_t)at)
				  : preadv(f->fd, iov, (int)n, (off_t)at);
		if (r < 0 && errno == EINTR)
			continue;
		/* A result of 0 means that another process has shortened the file. */
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		at += (uint64_t)r;
		for (; n > 0 && (size_t)r >= iov->iov_len; iov++, n--)
			r -= (ssize_t)iov->iov_len;
		if (n > 0) {
			iov->iov_base = (uint8_t *)iov->iov_base + r;
			iov->iov_len -= (size_t)r;
		}
	}
	return 0;
}

static int file_read(struct blk_image *i, struct iovec *iov, unsigned n, uint64_t offset)
{
	return transfer(file_of(i), false, iov, n, offset);
}

static int file_write(struct blk_image *i, struct iovec *iov, unsigned n, uint64_t offset)
{
	return transfer(file_of(i), true, iov, n, offset);
}

static int write_zeros(struct blk_file *f, uint64_t at, uint64_t len)
{
	static const char zeros[4096];
	struct iovec v[16];

	if (f->align > 1)
		return transfer_bounced(f, ZEROES, (struct iov_range){.len = len}, at);
	while (len > 0) {
		int n = 0;
		for (uint64_t left = len; left > 0 && n < (int)ARRAY_SIZE(v); n++) {
			size_t part = left < sizeof(zeros) ? (size_t)left : sizeof(zeros);
			v[n] = (struct iovec){.iov_base = (void *)zeros, .iov_len = part};
			left -= part;
		}
		ssize_t r = pwritev(f->fd, v, n, (off_t)at);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		at += (uint64_t)r;
		len -= (uint64_t)r;
	}
	return 0;
}

static int file_zero(struct blk_image *i, uint64_t offset, uint64_t length, bool unmap)
{
	struct blk_file *f = file_of(i);
	int mode = FALLOC_FL_KEEP_SIZE | (unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);

	if (fallocate(f->fd, mode, (off_t)offset, (off_t)length) == 0)
		return 0;
	/*
	 * If the file system does not support fallocate(2) with this mode, the function writes
	 * zeros.
	 */
	return write_zeros(f, offset, length);
}

static int file_discard(struct blk_image *i, uint64_t offset, uint64_t length)
{
	/*
	 * Ignores an error of fallocate(2), because a discard is only a hint, and not every file
	 * system supports this mode.
	 */
	(void)fallocate(file_of(i)->fd, FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE, (off_t)offset,
		(off_t)length);
	return 0;
}

static int file_flush(struct blk_image *i)
{
	struct blk_file *f = file_of(i);

	/*
	 * After a failed fdatasync(2) the kernel may have dropped what it could not write, and a
	 * second call would succeed. So all later flushes fail too, and the error is EIO whatever
	 * the reason was, because space on the host does not bring the data back.
	 */
	if (!f->sync_failed && fdatasync(f->fd) < 0)
		f->sync_failed = true;
	return f->sync_failed ? -EIO : 0;
}

static const struct blk_image_ops ops = {.read = file_read,
	.write = file_write,
	.zero = file_zero,
	.discard = file_discard,
	.flush = file_flush};

static int get_size(int fd, struct stat *st, uint64_t *ret)
{
	if (fstat(fd, st) < 0)
		return err_sys("disk image: read its size");
	if (S_ISREG(st->st_mode))
		*ret = (uint64_t)st->st_size;
	else if (!S_ISBLK(st->st_mode))
		return err_set(EINVAL, "disk image: expected a regular file or a block device");
	else if (ioctl(fd, BLKGETSIZE64, ret) < 0)
		return err_sys("disk image: read the size of the block device");
	if (*ret < VIRTIO_BLK_SECTOR)
		return err_set(EINVAL,
			"disk image of %" PRIu64 " bytes: expected at least one sector (%d)", *ret,
			VIRTIO_BLK_SECTOR);
	return 0;
}

/*
 * Returns the alignment that direct I/O on this file needs. Linux 6.1 and later report it; on older
 * kernels the size of a block or page is safe.
 */
static uint32_t direct_align(int fd, const struct stat *st)
{
	struct statx x = {0};
	int sector = 0;

#ifdef STATX_DIOALIGN
	if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &x) == 0 &&
		(x.stx_mask & STATX_DIOALIGN) && x.stx_dio_offset_align > 0)
		return x.stx_dio_mem_align > x.stx_dio_offset_align ? x.stx_dio_mem_align
								    : x.stx_dio_offset_align;
#endif
	if (S_ISBLK(st->st_mode) && ioctl(fd, BLKSSZGET, &sector) == 0 && sector > 0)
		return (uint32_t)sector;
	return 4096;
}

static int init_direct(struct blk_file *f, const struct stat *st)
{
	int flags = fcntl(f->fd, F_GETFL);

	f->align = 1;
	if (flags < 0)
		return err_sys("disk image: read its flags");
	if (!(flags & O_DIRECT))
		return 0;
	f->align = direct_align(f->fd, st);
	if (f->align > ALIGN_MAX || (f->align & (f->align - 1)))
		return err_set(EINVAL,
			"disk image: direct I/O in units of %" PRIu32
			" bytes: expected a power of two up to %d",
			f->align, ALIGN_MAX);
	if (f->image.size % f->align)
		return err_set(EINVAL,
			"disk image of %" PRIu64
			" bytes: direct I/O (O_DIRECT) needs a multiple of "
			"%" PRIu32 "; extend it, or open it without O_DIRECT",
			f->image.size, f->align);
	f->bounce = aligned_alloc(f->align < 4096 ? 4096 : f->align, BOUNCE_LEN);
	return f->bounce ? 0 : err_set(ENOMEM, "out of memory for a disk's buffer");
}

static void set_blocks(struct blk_file *f, const struct stat *st)
{
	uint32_t logical = f->align > VIRTIO_BLK_SECTOR ? f->align : VIRTIO_BLK_SECTOR;
	unsigned physical = 0, optimal = 0;

	if (!S_ISBLK(st->st_mode))
		physical = (unsigned)st->st_blksize;
	else if (ioctl(f->fd, BLKPBSZGET, &physical) < 0 || ioctl(f->fd, BLKIOOPT, &optimal) < 0)
		physical = optimal = 0;
	if (physical < logical || physical > ALIGN_MAX || (physical & (physical - 1)))
		physical = logical;
	f->image.block = logical;
	f->image.physical = f->image.discard = physical;
	f->image.optimal = optimal;
}

int blk_file_init(struct blk_file *f, int fd, bool read_only)
{
	struct stat st;

	*f = (struct blk_file){.image = {.ops = &ops, .read_only = read_only}, .fd = fd};
	int r = get_size(fd, &st, &f->image.size);
	if (r >= 0)
		r = init_direct(f, &st);
	if (r >= 0)
		set_blocks(f, &st);
	return r;
}

int blk_file_resize(struct blk_file *f, uint64_t size)
{
	struct stat st;

	if (fstat(f->fd, &st) < 0)
		return err_sys("disk image: read its size");
	if (!S_ISREG(st.st_mode))
		return err_set(ENOTSUP, "disk image: a block device keeps its size");
	if (size < f->image.size || size % f->image.block)
		return err_set(EINVAL,
			"disk image: %" PRIu64 " bytes: expected %" PRIu64
			" or more, and whole blocks of %" PRIu32,
			size, f->image.size, f->image.block);
	if (size > INT64_MAX || ftruncate(f->fd, (off_t)size) < 0)
		return err_sys("disk image: make it %" PRIu64 " bytes large", size);
	f->image.size = size;
	return 0;
}

void blk_file_release(struct blk_file *f)
{
	free(take_ptr(f->bounce));
}
