/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device (virtio 1.2, 5.11): a share of the host that a server process gives to the
 * guest, either caisson's own (vm/fs/) or any other that speaks vhost-user. Queue 0 is for urgent
 * requests. There is one queue for all others, because caisson's server has one thread.
 */
#pragma once
#include <linux/virtio_fs.h>

#include "vm/vhost/front.h"

#define VIRTIO_FS_TAG_MAX 36 /* bytes; without a NUL if all are used (5.11.4) */

struct virtio_fs {
	struct vhost_user vhost;
	struct virtio_fs_config config;
	char peer[64];
};

/*
 * tag: the name that the guest mounts, 1 to 36 bytes. sock: connected to the server; it stays the
 * caller's. Blocks until the server has reported its features. -EINVAL: a bad tag; other errors are
 * those of vhost_user_init().
 */
int virtio_fs_init(struct virtio_fs *fs, const struct vm_memory *m, const char *tag, int sock)
	must_check;
