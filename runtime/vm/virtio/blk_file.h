/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image for the block device (blk.h) that is a raw file or a block device of the host. The image
 * serves one request at a time, with preadv(2) and similar calls.
 */
#pragma once
#include "vm/virtio/blk.h"

struct blk_file {
	struct blk_image image;
	int fd;
	bool sync_failed; /* an fdatasync(2) has failed, so the file may lack earlier writes */
	/* direct I/O: required alignment of addresses, offsets and lengths in bytes; otherwise 1 */
	uint32_t align;
	uint8_t *bounce; /* buffer for requests that are not aligned; NULL if align is 1 */
};

/*
 * Makes an image of the file fd, which the caller still owns. The size of the image is the present
 * size of the file. The image uses direct I/O if the descriptor has O_DIRECT; requests that are not
 * aligned for it go through a buffer, in whole blocks. Returns -EINVAL if the file is smaller than
 * a sector or, with O_DIRECT, if the file's size is not a multiple of the block size.
 */
int blk_file_init(struct blk_file *f, int fd, bool read_only) must_check;
/*
 * Makes the file `size` bytes large, and the image with it. Returns -ENOTSUP for a block device,
 * and -EINVAL if the image would become smaller.
 */
int blk_file_resize(struct blk_file *f, uint64_t size) must_check;
void blk_file_release(struct blk_file *f);
