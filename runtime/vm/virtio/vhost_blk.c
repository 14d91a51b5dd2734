/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtio/vhost_blk.h"

#include <linux/virtio_blk.h>
#include <linux/virtio_ids.h>
#include <stddef.h>

/*
 * Length of the configuration that this process reads from the back end. It ends with the members
 * of VIRTIO_BLK_F_WRITE_ZEROES, because a back end refuses a request for more bytes of
 * configuration than it has.
 */
#define CONFIG_LEN (offsetof(struct virtio_blk_config, write_zeroes_may_unmap) + 4)

#define BIT(n) (UINT64_C(1) << (n))
#define FEATURES \
	(BIT(VIRTIO_BLK_F_SIZE_MAX) | BIT(VIRTIO_BLK_F_SEG_MAX) | BIT(VIRTIO_BLK_F_GEOMETRY) | \
		BIT(VIRTIO_BLK_F_RO) | BIT(VIRTIO_BLK_F_BLK_SIZE) | BIT(VIRTIO_BLK_F_FLUSH) | \
		BIT(VIRTIO_BLK_F_TOPOLOGY) | BIT(VIRTIO_BLK_F_CONFIG_WCE) | \
		BIT(VIRTIO_BLK_F_DISCARD) | BIT(VIRTIO_BLK_F_WRITE_ZEROES))

int virtio_blk_remote_init(
	struct vhost_user *v, const struct vm_memory *m, const struct virtio_blk_remote_options *o)
{
	const unsigned queues = o->queues ? o->queues : 1;

	return vhost_user_init(v, m,
		&(struct vhost_user_options){.sock = o->sock,
			.peer = o->peer,
			.reconnect = o->reconnect,
			.owned = o->owned,
			.shadow = true,
			.shadow_whole = true,
			.name = "blk",
			.id = VIRTIO_ID_BLOCK,
			.queue_count = queues,
			.features = FEATURES | (queues > 1 ? BIT(VIRTIO_BLK_F_MQ) : 0),
			.config_len = CONFIG_LEN});
}
