/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a block device (virtio 1.2, 5.2) whose requests another process serves by vhost-user. */
#pragma once
#include "vm/vhost/front.h"

struct virtio_blk_remote_options {
	int sock;         /* connected to the back end; the caller closes it */
	const char *peer; /* name of the back end, for messages; the device keeps the pointer */
	int reconnect;    /* socket of the back end's connector, as in struct vhost_user_options */
	unsigned queues;  /* number of queues, which the back end must have; 0: one */
};

/*
 * Makes a block device whose requests a vhost-user back end serves. The back end reports the size,
 * the block size and the rest of the configuration. The errors are those of vhost_user_init().
 */
int virtio_blk_remote_init(struct vhost_user *v, const struct vm_memory *m,
	const struct virtio_blk_remote_options *o) must_check;
