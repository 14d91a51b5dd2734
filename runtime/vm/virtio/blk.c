/* SPDX-License-Identifier: Apache-2.0 */
#include <endian.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "devices.h"
#include "str.h"

#define SEGMENTS_MAX 254 /* beside header and status, in a queue of 256 */
#define ZEROES_MAX 32768 /* sectors in one request: 16 MiB */
#define HEADER_LEN 16

/*
 * readv(2) and writev(2) stop early at signals and at 2 GiB; a request is done when all of it is.
 */
static int transfer(struct virtio_blk *b, bool to_guest, uint64_t len, off_t at)
{
	const uint64_t start = to_guest ? 0 : HEADER_LEN;

	for (uint64_t done = 0; done < len;) {
		unsigned n = virtq_slice(&b->chain, to_guest, start + done, len - done, b->part);
		ssize_t r = to_guest ? preadv(b->fd, b->part, (int)n, at + (off_t)done)
				     : pwritev(b->fd, b->part, (int)n, at + (off_t)done);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) /* 0: somebody has shortened the file */
			return VIRTIO_BLK_S_IOERR;
		done += (uint64_t)r;
	}
	return VIRTIO_BLK_S_OK;
}

static bool in_range(const struct virtio_blk *b, uint64_t sector, uint64_t sectors)
{
	return sector <= b->sectors && sectors <= b->sectors - sector;
}

static int read_write(struct virtio_blk *b, bool to_guest, uint64_t sector)
{
	uint64_t len = to_guest ? b->chain.write_len - 1 : b->chain.read_len - HEADER_LEN;

	if (len % VIRTIO_BLK_SECTOR || !in_range(b, sector, len / VIRTIO_BLK_SECTOR))
		return VIRTIO_BLK_S_IOERR;
	if (!to_guest && b->read_only)
		return VIRTIO_BLK_S_IOERR;
	return transfer(b, to_guest, len, (off_t)(sector * VIRTIO_BLK_SECTOR));
}

static int write_zeros(const struct virtio_blk *b, off_t at, uint64_t len)
{
	static const char zeros[65536];

	while (len > 0) {
		ssize_t r =
			pwrite(b->fd, zeros, len < sizeof(zeros) ? (size_t)len : sizeof(zeros), at);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return VIRTIO_BLK_S_IOERR;
		at += r;
		len -= (uint64_t)r;
	}
	return VIRTIO_BLK_S_OK;
}

/* DISCARD and WRITE_ZEROES, of one segment: max_discard_seg and max_write_zeroes_seg say so. */
static int discard(struct virtio_blk *b, bool zeroes)
{
	struct virtio_blk_discard_write_zeroes s;

	if (b->chain.read_len != HEADER_LEN + sizeof(s))
		return VIRTIO_BLK_S_IOERR;
	virtq_read(&b->chain, HEADER_LEN, &s, sizeof(s));
	uint64_t sector = le64toh(s.sector);
	uint32_t sectors = le32toh(s.num_sectors), flags = le32toh(s.flags);
	if (flags & ~(zeroes ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0U))
		return VIRTIO_BLK_S_UNSUPP; /* 5.2.6.2 */
	if (b->read_only || sectors > ZEROES_MAX || !in_range(b, sector, sectors))
		return VIRTIO_BLK_S_IOERR;
	if (sectors == 0)
		return VIRTIO_BLK_S_OK;
	off_t at = (off_t)(sector * VIRTIO_BLK_SECTOR);
	off_t len = (off_t)sectors * VIRTIO_BLK_SECTOR;
	bool punch = !zeroes || (flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
	int mode = FALLOC_FL_KEEP_SIZE | (punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
	if (fallocate(b->fd, mode, at, len) == 0)
		return VIRTIO_BLK_S_OK;
	/* Where the file system can't: a discard is but a hint, zeroes must be there. */
	return zeroes ? write_zeros(b, at, (uint64_t)len) : VIRTIO_BLK_S_OK;
}

static int get_id(struct virtio_blk *b)
{
	if (b->chain.write_len < 1 + sizeof(b->serial))
		return VIRTIO_BLK_S_IOERR;
	virtq_write(&b->chain, 0, b->serial, sizeof(b->serial));
	return VIRTIO_BLK_S_OK;
}

static int request(struct virtio_blk *b, uint32_t type, uint64_t sector)
{
	switch (type) {
	case VIRTIO_BLK_T_IN:
		return read_write(b, true, sector);
	case VIRTIO_BLK_T_OUT:
		return read_write(b, false, sector);
	case VIRTIO_BLK_T_FLUSH:
		return fdatasync(b->fd) < 0 ? VIRTIO_BLK_S_IOERR : VIRTIO_BLK_S_OK;
	case VIRTIO_BLK_T_GET_ID:
		return get_id(b);
	case VIRTIO_BLK_T_DISCARD:
		return discard(b, false);
	case VIRTIO_BLK_T_WRITE_ZEROES:
		return discard(b, true);
	default:
		return VIRTIO_BLK_S_UNSUPP;
	}
}

/* How many bytes hold what we wrote, from the start of the writable part on (2.7.8.2). */
static uint32_t written(const struct virtio_blk *b, uint32_t type, int status)
{
	if (type == VIRTIO_BLK_T_IN && status == VIRTIO_BLK_S_OK)
		return b->chain.write_len <= UINT32_MAX ? (uint32_t)b->chain.write_len : UINT32_MAX;
	if (type == VIRTIO_BLK_T_GET_ID && status == VIRTIO_BLK_S_OK)
		return b->chain.write_len == sizeof(b->serial) + 1 ? sizeof(b->serial) + 1
								   : sizeof(b->serial);
	return b->chain.write_len == 1; /* the status byte, where it is all there is */
}

static int serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	struct virtio_blk *b = (struct virtio_blk *)d;
	struct virtq *q = &d->queues[index];

	for (; budget > 0; budget--) {
		struct virtio_blk_outhdr header;
		int r = virtq_pop(q, &b->chain);
		if (r < 0)
			return r;
		if (r == 0) {
			if (virtq_arm(q))
				continue;
			break;
		}
		if (b->chain.write_len == 0 || b->chain.read_len < HEADER_LEN)
			return err_set(EPROTO,
				"a request with %" PRIu64 " bytes of header and %" PRIu64
				" for the status",
				b->chain.read_len, b->chain.write_len);
		virtq_read(&b->chain, 0, &header, HEADER_LEN);
		uint32_t type = le32toh(header.type);
		uint8_t status = (uint8_t)request(b, type, le64toh(header.sector));
		virtq_write(&b->chain, b->chain.write_len - 1, &status, 1);
		virtq_push(q, b->chain.head, written(b, type, status));
	}
	virtio_signal_queue(d, index);
	return budget == 0;
}

static const struct virtio_ops ops = {serve, NULL};

static int size_of(int fd, uint64_t *ret)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys("disk image");
	if (S_ISREG(st.st_mode))
		*ret = (uint64_t)st.st_size;
	else if (!S_ISBLK(st.st_mode))
		return err_set(EINVAL, "disk image: expected a regular file or a block device");
	else if (ioctl(fd, BLKGETSIZE64, ret) < 0)
		return err_sys("disk image: size of the block device");
	if (*ret < VIRTIO_BLK_SECTOR)
		return err_set(EINVAL,
			"disk image of %" PRIu64 " bytes: expected at least one sector (%d)", *ret,
			VIRTIO_BLK_SECTOR);
	return 0;
}

int virtio_blk_init(
	struct virtio_blk *b, const struct vm_memory *m, int fd, bool read_only, const char *serial)
{
	uint64_t size = 0;
	int r = size_of(fd, &size);

	if (r < 0)
		return r;
	*b = (struct virtio_blk){
		.fd = fd, .sectors = size / VIRTIO_BLK_SECTOR, .read_only = read_only};
	/* Twenty bytes, without a NUL where all are used (5.2.6). */
	memcpy(b->serial, serial, strnlen(serial, sizeof(b->serial)));
	b->config = (struct virtio_blk_config){
		.capacity = htole64(b->sectors),
		.seg_max = htole32(SEGMENTS_MAX),
		.blk_size = htole32(VIRTIO_BLK_SECTOR),
		.max_discard_sectors = htole32(ZEROES_MAX),
		.max_discard_seg = htole32(1),
		.discard_sector_alignment = htole32(1),
		.max_write_zeroes_sectors = htole32(ZEROES_MAX),
		.max_write_zeroes_seg = htole32(1),
		.write_zeroes_may_unmap = 1,
	};
	uint64_t features = 1ULL << VIRTIO_BLK_F_SEG_MAX | 1ULL << VIRTIO_BLK_F_BLK_SIZE |
			    1ULL << VIRTIO_BLK_F_FLUSH;
	features |= read_only ? 1ULL << VIRTIO_BLK_F_RO
			      : 1ULL << VIRTIO_BLK_F_DISCARD | 1ULL << VIRTIO_BLK_F_WRITE_ZEROES;
	b->dev = (struct virtio_device){.ops = &ops,
		.name = "blk",
		.id = VIRTIO_ID_BLOCK,
		.features = features,
		.config = &b->config,
		.config_len = sizeof(b->config),
		.queue_count = 1};
	virtio_init(&b->dev, m);
	return 0;
}
