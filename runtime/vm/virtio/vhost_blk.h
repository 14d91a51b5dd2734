/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a block device (virtio 1.2, 5.2) whose requests another process serves by vhost-user. */
#pragma once
#include "vm/vhost/front.h"

/*
 * Makes a block device whose requests a vhost-user back end serves.
 *
 * sock: connected to the back end; the caller closes it. peer: name of the back end, for messages;
 * the device keeps the pointer. reconnect: see vhost_user_options. The back end reports the size,
 * the block size and the rest of the configuration. The errors are those of vhost_user_init().
 */
int virtio_blk_remote_init(struct vhost_user *v, const struct vm_memory *m, int sock,
	const char *peer, int reconnect) must_check;
