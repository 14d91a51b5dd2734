/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a block device (virtio 1.2, 5.2) whose requests another process serves by vhost-user. */
#pragma once
#include "vm/vhost/front.h"

struct virtio_blk_remote_options {
	int sock; /* socket that is connected to the back end; the caller closes it */
	/* name of the back end for error messages; the device keeps the pointer */
	const char *peer;
	/* socket over which the device asks for new connections, as in struct vhost_user_options */
	int reconnect;
	unsigned queues; /* number of queues, which the back end must have; 0: one */
	bool owned;      /* the same as in struct vhost_user_options */
};

/*
 * Makes a block device whose requests a vhost-user back end serves. The back end reports the size,
 * the block size and the rest of the configuration. The errors are those of vhost_user_init().
 */
int virtio_blk_remote_init(struct vhost_user *v, const struct vm_memory *m,
	const struct virtio_blk_remote_options *o) must_check;
