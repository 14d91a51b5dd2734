/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/served.h"

#include <unistd.h>

#include "base/fd.h"

/* how many errors this process prints at most, because a guest can cause any number of errors */
#define ERRORS_MAX 16
#define PHYSICAL 4096 /* block size of the host's file systems and disks, in bytes */
#define DISCARD_MAX (UINT32_C(1) << 30)

static struct served *served_of(struct blk_image *i)
{
	return (struct served *)i;
}

static int print_error(struct blk_image *i, int r)
{
	if (r < 0 && atomic_fetch_add(&served_of(i)->errors, 1) < ERRORS_MAX)
		fd_say(STDERR_FILENO, "caisson disk", err_msg());
	return r;
}

static int served_read(struct blk_image *i, struct iovec *iov, unsigned n, uint64_t offset)
{
	return print_error(i, disk_readv(served_of(i)->disk, iov, (int)n, offset));
}

static int served_write(struct blk_image *i, struct iovec *iov, unsigned n, uint64_t offset)
{
	return print_error(i, disk_writev(served_of(i)->disk, iov, (int)n, offset));
}

static int served_discard(struct blk_image *i, uint64_t offset, uint64_t length)
{
	return print_error(i, disk_discard(served_of(i)->disk, offset, length));
}

static int served_zero(struct blk_image *i, uint64_t offset, uint64_t length, bool unmap)
{
	int r = print_error(i, disk_zero(served_of(i)->disk, offset, length));

	/*
	 * If `unmap` is set, the clusters are also freed by disk_discard(); freed clusters still
	 * read as zeros.
	 */
	return r >= 0 && unmap ? served_discard(i, offset, length) : r;
}

static int served_flush(struct blk_image *i)
{
	return print_error(i, disk_flush(served_of(i)->disk));
}

static const struct blk_image_ops ops = {.read = served_read,
	.write = served_write,
	.zero = served_zero,
	.discard = served_discard,
	.flush = served_flush};

int served_init(struct served *s, struct disk *d)
{
	_cleanup_disk_info_ struct disk_info info = {0};
	int r = disk_get_info(d, &info);

	if (r < 0)
		return r;
	*s = (struct served){.disk = d};
	s->image = (struct blk_image){.ops = &ops,
		.size = disk_size(d),
		.read_only = !disk_writable(d),
		.block = VIRTIO_BLK_SECTOR,
		.physical = PHYSICAL,
		.discard = PHYSICAL};
	if (info.cluster_size > PHYSICAL && info.cluster_size <= DISCARD_MAX)
		s->image.discard = (uint32_t)info.cluster_size;
	return 0;
}
