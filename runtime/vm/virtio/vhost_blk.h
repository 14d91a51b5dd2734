/* SPDX-License-Identifier: Apache-2.0 */
/* A block device whose requests another process serves: virtio 1.2, 5.2, by vhost-user. */
#pragma once
#include "vm/vhost/front.h"

/*
 * sock: connected to the back end, the caller's; peer: its name for messages, kept; reconnect: as
 * in vhost_user_options. Size, block size and the rest are what the back end says. Errors as of
 * vhost_user_init().
 */
int virtio_blk_remote_init(struct vhost_user *v, const struct vm_memory *m, int sock,
	const char *peer, int reconnect) must_check;
