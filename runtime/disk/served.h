/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves an image of any format through a virtio block device (vm/virtio/blk.h). Several threads
 * may serve one image at a time.
 */
#pragma once
#include "images/disk/disk.h"
#include "vm/virtio/blk.h"

struct served {
	struct blk_image image;
	struct disk *disk;
	atomic_uint errors; /* how many errors of requests have been printed */
};

/*
 * Prepares *s to serve the disk, which the caller still owns. Errors of requests are printed on
 * standard error.
 */
int served_init(struct served *s, struct disk *d) must_check;
