/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/virtio_ids.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "base/str.h"
#include "vm/virtio/devices.h"

/*
 * the most data segments of a request; header and status make it 256 descriptors, the size of a
 * queue
 */
#define SEGMENTS_MAX 254
#define ZEROES_MAX 32768 /* the most sectors in one request to write zeroes: 16 MiB */
#define ZEROES_SEGMENTS_MAX 16
#define HEADER_LEN 16
#define BOUNCE_LEN (UINT64_C(256) << 10)
#define ALIGN_MAX 65536

enum direction { FROM_DISK, TO_DISK, ZEROES };

/* Transfers all `len` bytes, or fails. A read that meets the end of the file fails. */
static int transfer_fully(
	const struct virtio_blk *b, bool write, uint8_t *data, size_t len, off_t at)
{
	for (size_t done = 0; done < len;) {
		ssize_t r = write ? pwrite(b->fd, data + done, len - done, at + (off_t)done)
				  : pread(b->fd, data + done, len - done, at + (off_t)done);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return -EIO;
		done += (size_t)r;
	}
	return 0;
}

/*
 * Transfers the data through b->bounce in whole blocks, for requests that are not aligned. Before
 * it writes a part of a block it reads the block.
 */
static int transfer_bounced(struct virtio_blk *b, enum direction how, uint64_t len, off_t at)
{
	const uint64_t mask = b->align - 1;

	for (uint64_t done = 0; done < len;) {
		uint64_t start = (uint64_t)at + done, skip = start & mask;
		uint64_t part = len - done < BOUNCE_LEN - skip ? len - done : BOUNCE_LEN - skip;
		size_t span = (size_t)((skip + part + mask) & ~mask);
		off_t block = (off_t)(start - skip);
		int r = 0;

		if (how == FROM_DISK || part != span)
			r = transfer_fully(b, false, b->bounce, span, block);
		if (how == FROM_DISK && r == 0)
			virtq_write(&b->chain, done, b->bounce + skip, part);
		if (how == TO_DISK)
			virtq_read(&b->chain, HEADER_LEN + done, b->bounce + skip, part);
		if (how == ZEROES)
			memset(b->bounce + skip, 0, part);
		if (how != FROM_DISK && r == 0)
			r = transfer_fully(b, true, b->bounce, span, block);
		if (r < 0)
			return VIRTIO_BLK_S_IOERR;
		done += part;
	}
	return VIRTIO_BLK_S_OK;
}

static bool is_aligned(const struct virtio_blk *b, unsigned parts, off_t at)
{
	uint64_t bits = (uint64_t)at;

	for (unsigned i = 0; i < parts; i++)
		bits |= (uintptr_t)b->part[i].iov_base | b->part[i].iov_len;
	return (bits & (b->align - 1)) == 0;
}

/*
 * Transfers the data of the request, repeating the system call until all is done, because readv(2)
 * and writev(2) stop early at signals and at 2 GiB.
 */
static int transfer_request(struct virtio_blk *b, bool to_guest, uint64_t len, off_t at)
{
	const uint64_t start = to_guest ? 0 : HEADER_LEN;

	for (uint64_t done = 0; done < len;) {
		unsigned n = virtq_slice(&b->chain, to_guest, start + done, len - done, b->part);

		if (done == 0 && !is_aligned(b, n, at))
			return transfer_bounced(b, to_guest ? FROM_DISK : TO_DISK, len, at);
		ssize_t r = to_guest ? preadv(b->fd, b->part, (int)n, at + (off_t)done)
				     : pwritev(b->fd, b->part, (int)n, at + (off_t)done);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) /* 0 means that another process has shortened the file */
			return VIRTIO_BLK_S_IOERR;
		done += (uint64_t)r;
	}
	return VIRTIO_BLK_S_OK;
}

/*
 * Makes written data durable with fdatasync(2). Also fails if the flush after the cache was
 * switched off has failed, because no request has reported that failure and the kernel reports a
 * failed write only once.
 */
static int flush_file(struct virtio_blk *b)
{
	bool failed = fdatasync(b->fd) < 0 || b->flush_failed;

	b->flush_failed = false;
	return failed ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
}

/*
 * Returns the status of a finished write. If the driver has switched the write cache off or did not
 * accept FLUSH, this function flushes first, because the data must then be on stable storage before
 * the answer (virtio 5.2.6.2).
 */
static int finish_write(struct virtio_blk *b, int status)
{
	const uint64_t cache = 1ULL << VIRTIO_BLK_F_FLUSH | 1ULL << VIRTIO_BLK_F_CONFIG_WCE;

	if (status != VIRTIO_BLK_S_OK || ((b->dev.driver_features & cache) && b->config.wce))
		return status;
	return flush_file(b);
}

static bool is_in_range(const struct virtio_blk *b, uint64_t sector, uint64_t sectors)
{
	return sector <= b->sectors && sectors <= b->sectors - sector;
}

static int serve_read_write(struct virtio_blk *b, bool to_guest, uint64_t sector)
{
	uint64_t len = to_guest ? b->chain.write_len - 1 : b->chain.read_len - HEADER_LEN;

	if (len % VIRTIO_BLK_SECTOR || !is_in_range(b, sector, len / VIRTIO_BLK_SECTOR))
		return VIRTIO_BLK_S_IOERR;
	if (!to_guest && b->read_only)
		return VIRTIO_BLK_S_IOERR;
	int status = transfer_request(b, to_guest, len, (off_t)(sector * VIRTIO_BLK_SECTOR));
	return to_guest ? status : finish_write(b, status);
}

static int write_zeros(struct virtio_blk *b, off_t at, uint64_t len)
{
	static const char zeros[4096];
	struct iovec v[16];

	if (b->align > 1)
		return transfer_bounced(b, ZEROES, len, at);
	while (len > 0) {
		int n = 0;
		for (uint64_t left = len; left > 0 && n < (int)ARRAY_SIZE(v); n++) {
			size_t part = left < sizeof(zeros) ? (size_t)left : sizeof(zeros);
			v[n] = (struct iovec){.iov_base = (void *)zeros, .iov_len = part};
			left -= part;
		}
		ssize_t r = pwritev(b->fd, v, n, at);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return VIRTIO_BLK_S_IOERR;
		at += r;
		len -= (uint64_t)r;
	}
	return VIRTIO_BLK_S_OK;
}

static int discard_segment(
	struct virtio_blk *b, bool zeroes, const struct virtio_blk_discard_write_zeroes *s)
{
	off_t at = (off_t)(le64toh(s->sector) * VIRTIO_BLK_SECTOR);
	off_t len = (off_t)le32toh(s->num_sectors) * VIRTIO_BLK_SECTOR;
	bool punch = !zeroes || (le32toh(s->flags) & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	int mode = FALLOC_FL_KEEP_SIZE | (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);

	if (len == 0 || fallocate(b->fd, mode, at, len) == 0)
		return VIRTIO_BLK_S_OK;
	/*
	 * The file system does not support this fallocate(2). A discard is only a hint, so it is
	 * skipped, but zeroes must be written.
	 */
	return zeroes ? write_zeros(b, at, (uint64_t)len) : VIRTIO_BLK_S_OK;
}

/*
 * Serves DISCARD and WRITE_ZEROES requests. It checks all segments before it changes the first one.
 */
static int serve_discard(struct virtio_blk *b, bool zeroes)
{
	struct virtio_blk_discard_write_zeroes s[ZEROES_SEGMENTS_MAX];
	uint64_t len = b->chain.read_len - HEADER_LEN;
	int status = VIRTIO_BLK_S_OK;

	if (len == 0 || len % sizeof(s[0]) || len > sizeof(s))
		return VIRTIO_BLK_S_IOERR;
	size_t count = virtq_read(&b->chain, HEADER_LEN, s, (size_t)len) / sizeof(s[0]);
	for (size_t i = 0; i < count; i++) {
		uint32_t allowed = zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0;

		if (le32toh(s[i].flags) & ~allowed)
			/* the answer that virtio 5.2.6.2 requires for unknown flags */
			return VIRTIO_BLK_S_UNSUPP;
		if (b->read_only || le32toh(s[i].num_sectors) > ZEROES_MAX ||
			!is_in_range(b, le64toh(s[i].sector), le32toh(s[i].num_sectors)))
			return VIRTIO_BLK_S_IOERR;
	}
	for (size_t i = 0; i < count && status == VIRTIO_BLK_S_OK; i++)
		status = discard_segment(b, zeroes, &s[i]);
	return finish_write(b, status);
}

static int serve_id(struct virtio_blk *b)
{
	if (b->chain.write_len < 1 + sizeof(b->serial))
		return VIRTIO_BLK_S_IOERR;
	virtq_write(&b->chain, 0, b->serial, sizeof(b->serial));
	return VIRTIO_BLK_S_OK;
}

static int serve_request(struct virtio_blk *b, uint32_t type, uint64_t sector)
{
	switch (type) {
	case VIRTIO_BLK_T_IN:
		return serve_read_write(b, true, sector);
	case VIRTIO_BLK_T_OUT:
		return serve_read_write(b, false, sector);
	case VIRTIO_BLK_T_FLUSH:
		return flush_file(b);
	case VIRTIO_BLK_T_GET_ID:
		return serve_id(b);
	case VIRTIO_BLK_T_DISCARD:
		return serve_discard(b, false);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return serve_discard(b, true);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/*
 * Returns how many bytes the device has written from the start of the writable part (virtio
 * 2.7.8.2).
 */
static uint32_t written_len(const struct virtio_blk *b, uint32_t type, int status)
{
	if (type == VIRTIO_BLK_T_IN && status == VIRTIO_BLK_S_OK)
		return b->chain.write_len <= UINT32_MAX ? (uint32_t)b->chain.write_len : UINT32_MAX;
	if (type == VIRTIO_BLK_T_GET_ID && status == VIRTIO_BLK_S_OK)
		return b->chain.write_len == sizeof(b->serial) + 1 ? sizeof(b->serial) + 1
								   : sizeof(b->serial);
	/* written only if the request has room for exactly the status byte */
	return b->chain.write_len == 1;
}

static int blk_serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	struct virtio_blk *b = (struct virtio_blk *)d;
	struct virtq *q = &d->queues[index];

	if (b->flush_owed)
		b->flush_failed = flush_file(b) != VIRTIO_BLK_S_OK;
	b->flush_owed = false;
	for (; budget > 0; budget--) {
		struct virtio_blk_outhdr header;
		int r = virtq_next(q, &b->chain);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		if (b->chain.write_len == 0 || b->chain.read_len < HEADER_LEN)
			return err_set(EPROTO,
				"a request with %" PRIu64 " bytes of header and %" PRIu64
				" for the status: expected at least %d and 1",
				b->chain.read_len, b->chain.write_len, HEADER_LEN);
		virtq_read(&b->chain, 0, &header, HEADER_LEN);
		uint32_t type = le32toh(header.type);
		uint8_t status = (uint8_t)serve_request(b, type, le64toh(header.sector));
		virtq_write(&b->chain, b->chain.write_len - 1, &status, 1);
		virtq_push(q, b->chain.head, written_len(b, type, status));
	}
	virtio_signal_queue(d, index);
	return budget == 0;
}

static void blk_reset(struct virtio_device *d)
{
	((struct virtio_blk *)d)->config.wce = 1;
}

/*
 * Handles a write to the configuration: the driver switches its write cache on or off, and all else
 * is read-only. Cached data need not become stable at once when the cache is switched off (virtio
 * 5.2.6.2), and a vCPU should not wait for a disk. So this function leaves the flush to the thread
 * that serves the queue, and kicks the queue to wake that thread.
 */
static void blk_configure(struct virtio_device *d, uint32_t offset, const void *data, unsigned len)
{
	struct virtio_blk *b = (struct virtio_blk *)d;
	bool negotiated = d->driver_features & 1ULL << VIRTIO_BLK_F_CONFIG_WCE;
	const uint8_t *on = data;

	if (!negotiated || offset != offsetof(struct virtio_blk_config, wce) || len != 1 || *on > 1)
		return;
	b->config.wce = *on;
	if (*on)
		return;
	b->flush_owed = true;
	if (d->kicks)
		eventfd_write(d->kicks[0], 1);
}

static const struct virtio_ops ops = {
	.serve = blk_serve, .reset = blk_reset, .configure = blk_configure};

static int get_image_size(int fd, struct stat *st, uint64_t *ret)
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

static int init_direct(struct virtio_blk *b, const struct stat *st, uint64_t size)
{
	int flags = fcntl(b->fd, F_GETFL);

	b->align = 1;
	if (flags < 0)
		return err_sys("disk image: read its flags");
	if (!(flags & O_DIRECT))
		return 0;
	b->align = direct_align(b->fd, st);
	if (b->align > ALIGN_MAX || (b->align & (b->align - 1)))
		return err_set(EINVAL,
			"disk image: direct I/O in units of %" PRIu32
			" bytes: expected a power of two up to %d",
			b->align, ALIGN_MAX);
	if (size % b->align)
		return err_set(EINVAL,
			"disk image of %" PRIu64
			" bytes: direct I/O (O_DIRECT) needs a multiple of "
			"%" PRIu32 "; extend it, or open it without O_DIRECT",
			size, b->align);
	b->bounce = aligned_alloc(b->align < 4096 ? 4096 : b->align, BOUNCE_LEN);
	return b->bounce ? 0 : err_set(ENOMEM, "out of memory for a disk's buffer");
}

/*
 * Reports to the driver the block size that it should align requests to, and the physical block
 * size (virtio 5.2.4).
 */
static void set_topology(struct virtio_blk *b, const struct stat *st)
{
	uint32_t logical = b->align > VIRTIO_BLK_SECTOR ? b->align : VIRTIO_BLK_SECTOR;
	unsigned physical = 0, optimal = 0;

	if (!S_ISBLK(st->st_mode))
		physical = (unsigned)st->st_blksize;
	else if (ioctl(b->fd, BLKPBSZGET, &physical) < 0 || ioctl(b->fd, BLKIOOPT, &optimal) < 0)
		physical = optimal = 0;
	if (physical < logical || physical > ALIGN_MAX || (physical & (physical - 1)))
		physical = logical;
	b->config.blk_size = htole32(logical);
	b->config.physical_block_exp = (uint8_t)__builtin_ctz(physical / logical);
	b->config.min_io_size = htole16((uint16_t)(physical / logical));
	b->config.opt_io_size = htole32(optimal / logical);
	b->config.discard_sector_alignment = htole32(physical / VIRTIO_BLK_SECTOR);
}

static uint64_t blk_features(bool read_only)
{
	uint64_t both = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE |
			1ULL << VIRTIO_BLK_F_TOPOLOGY | 1ULL << VIRTIO_BLK_F_FLUSH |
			1ULL << VIRTIO_BLK_F_CONFIG_WCE;

	return both |
	       (read_only ? 1ULL << VIRTIO_BLK_F_RO
			  : 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES);
}

int virtio_blk_init(
	struct virtio_blk *b, const struct vm_memory *m, int fd, bool read_only, const char *serial)
{
	struct stat st;
	uint64_t size = 0;
	int r = get_image_size(fd, &st, &size);

	if (r < 0)
		return r;
	*b = (struct virtio_blk){
		.fd = fd, .sectors = size / VIRTIO_BLK_SECTOR, .read_only = read_only};
	r = init_direct(b, &st, size);
	if (r < 0)
		return r;
	/* The serial has 20 bytes, and no NUL if it uses all of them (virtio 5.2.6). */
	memcpy(b->serial, serial, strnlen(serial, sizeof(b->serial)));
	b->config = (struct virtio_blk_config){
		.capacity = htole64(b->sectors),
		.seg_max = htole32(SEGMENTS_MAX),
		.wce = 1,
		.max_discard_sectors = htole32(ZEROES_MAX),
		.max_discard_seg = htole32(ZEROES_SEGMENTS_MAX),
		.max_write_zeroes_sectors = htole32(ZEROES_MAX),
		.max_write_zeroes_seg = htole32(ZEROES_SEGMENTS_MAX),
		.write_zeroes_may_unmap = 1,
	};
	set_topology(b, &st);
	b->dev = (struct virtio_device){.ops = &ops,
		.name = "blk",
		.id = VIRTIO_ID_BLOCK,
		.features = blk_features(read_only),
		.config = &b->config,
		.config_len = sizeof(b->config),
		.queue_count = 1};
	virtio_init(&b->dev, m);
	return 0;
}

void virtio_blk_release(struct virtio_blk *b)
{
	free(take_ptr(b->bounce));
}
