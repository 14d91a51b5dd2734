/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image of any format as what a virtio block device serves (vm/virtio/blk.h). Several threads
 * may serve it at a time.
 */
#pragma once
#include "images/disk/disk.h"
#include "vm/virtio/blk.h"

struct served {
	struct blk_image image;
	struct disk *disk;
	atomic_uint errors; /* how many errors have been printed */
};

/* The caller still owns the disk. Errors of requests are printed on standard error. */
int served_init(struct served *s, struct disk *d) must_check;
