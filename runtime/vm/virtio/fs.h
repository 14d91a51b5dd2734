/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes the file system device (virtio 1.2, 5.11), by which a server process shares a directory of
 * the host with the guest: caisson's own server (vm/fs/) or any other that speaks vhost-user. Queue
 * 0 is for urgent requests. There is one queue for all other requests, because caisson's server has
 * one thread.
 */
#pragma once
#include <linux/virtio_fs.h>

#include "vm/vhost/front.h"

/* longest tag in bytes; it has no NUL if it uses all of them (virtio 1.2, 5.11.4) */
#define VIRTIO_FS_TAG_MAX 36

struct virtio_fs {
	struct vhost_user vhost;
	struct virtio_fs_config config;
	char peer[64];
};

/*
 * Makes the device. `tag` is the name by which the guest mounts the share, 1 to 36 bytes. `sock` is
 * connected to the server; the caller closes it. The call blocks until the server has reported its
 * features. `owned` is the same as in struct vhost_user_options. Returns -EINVAL for a bad tag;
 * other errors are those of vhost_user_init().
 */
int virtio_fs_init(struct virtio_fs *fs, const struct vm_memory *m, const char *tag, int sock,
	bool owned) must_check;
