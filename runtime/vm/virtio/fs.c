/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtio/fs.h"

#include <endian.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>

#define REQUEST_QUEUES 1

int virtio_fs_init(
	struct virtio_fs *fs, const struct vm_memory *m, const char *tag, int sock, bool owned)
{
	size_t len = strlen(tag);

	if (len == 0 || len > VIRTIO_FS_TAG_MAX)
		return err_set(EINVAL, "share: tag '%s' has %zu bytes, expected 1 to %d", tag, len,
			VIRTIO_FS_TAG_MAX);
	*fs = (struct virtio_fs){.config.num_request_queues = htole32(REQUEST_QUEUES)};
	memcpy(fs->config.tag, tag, len);
	snprintf(fs->peer, sizeof(fs->peer), "the server of share '%s'", tag);
	return vhost_user_init(&fs->vhost, m,
		&(struct vhost_user_options){.sock = sock,
			.peer = fs->peer,
			.owned = owned,
			.name = "fs",
			.shadow = true,
			.id = VIRTIO_ID_FS,
			.queue_count = 1 + REQUEST_QUEUES,
			.config = &fs->config,
			.config_len = sizeof(fs->config)});
}
