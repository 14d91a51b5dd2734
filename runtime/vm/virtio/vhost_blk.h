/* SPDX-License-Identifier: Apache-2.0 */
/* A block device whose requests another process serves (virtio 1.2, 5.2, by vhost-user). */
#pragma once
#include "vm/vhost/front.h"

/*
 * Makes a block device whose requests a vhost-user back end serves.
 *
 * sock: connected to the back end; it stays the caller's. peer: name of the back end, for messages;
 * the pointer is kept. reconnect: as in vhost_user_options. The back end reports the size, the
 * block size and the rest of the configuration. The errors are those of vhost_user_init().
 */
int virtio_blk_remote_init(struct vhost_user *v, const struct vm_memory *m, int sock,
	const char *peer, int reconnect) must_check;
