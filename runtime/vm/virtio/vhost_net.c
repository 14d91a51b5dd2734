/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtio/vhost_net.h"

#include <endian.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <string.h>

#define BIT(n) (UINT64_C(1) << (n))
/*
 * The features that the device offers. Features that need a control queue are left out, because
 * back ends leave that queue to the front end, and this front end does not implement it.
 */
#define FEATURES \
	(BIT(VIRTIO_NET_F_CSUM) | BIT(VIRTIO_NET_F_GUEST_CSUM) | BIT(VIRTIO_NET_F_GUEST_TSO4) | \
		BIT(VIRTIO_NET_F_GUEST_TSO6) | BIT(VIRTIO_NET_F_GUEST_ECN) | \
		BIT(VIRTIO_NET_F_GUEST_UFO) | BIT(VIRTIO_NET_F_HOST_TSO4) | \
		BIT(VIRTIO_NET_F_HOST_TSO6) | BIT(VIRTIO_NET_F_HOST_ECN) | \
		BIT(VIRTIO_NET_F_HOST_UFO) | BIT(VIRTIO_NET_F_MRG_RXBUF))
#define OWN (BIT(VIRTIO_NET_F_MAC) | BIT(VIRTIO_NET_F_STATUS))

int virtio_net_remote_init(struct virtio_net_remote *n, const struct vm_memory *m,
	const struct virtio_net_remote_options *options)
{
	n->config = (struct virtio_net_space){
		.status = htole16(VIRTIO_NET_S_LINK_UP), .mtu = htole16(options->mtu)};
	memcpy(n->config.mac, options->mac, sizeof(n->config.mac));
	return vhost_user_init(&n->vhost, m,
		&(struct vhost_user_options){.sock = options->sock,
			.peer = options->peer,
			.owned = options->owned,
			.name = "net",
			.id = VIRTIO_ID_NET,
			.queue_count = 2,
			.pairs = true,
			.features = FEATURES,
			.own = OWN | (options->mtu ? BIT(VIRTIO_NET_F_MTU) : 0),
			.config = &n->config,
			.config_len = sizeof(n->config)});
}
