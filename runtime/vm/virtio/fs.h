/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device (virtio 1.2, 5.11): a share of the host that a server process (runtime/vm/
 * fs, or any other that speaks vhost-user) gives to the guest. Queue 0 is for urgent requests, the
 * one other queue for the rest: our server has one thread.
 */
#pragma once
#include <linux/virtio_fs.h>

#include "vm/vhost/front.h"

#define VIRTIO_FS_TAG_MAX 36 /* bytes, without a NUL where all are used (5.11.4) */

struct virtio_fs {
	struct vhost_user vhost;
	struct virtio_fs_config config;
	char peer[64];
};

/*
 * tag: what the guest mounts, 1 to 36 bytes. sock: connected to the server, the caller's. Blocks
 * until the server has said what it can. -EINVAL: a bad tag; else as vhost_user_init().
 */
int virtio_fs_init(struct virtio_fs *fs, const struct vm_memory *m, const char *tag, int sock)
	must_check;
