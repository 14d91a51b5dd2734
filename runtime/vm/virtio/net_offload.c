/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtio/net_offload.h"

#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>

#ifndef TUN_F_USO4 /* constants that the headers before Linux 6.2 lack */
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif
#ifndef VIRTIO_NET_F_HOST_USO
#define VIRTIO_NET_F_GUEST_USO4 54
#define VIRTIO_NET_F_GUEST_USO6 55
#define VIRTIO_NET_F_HOST_USO 56
#endif

static bool has_feature(uint64_t features, unsigned feature)
{
	return features >> feature & 1;
}

uint64_t net_offload_features(unsigned offloads)
{
	static const struct {
		unsigned offload, guest, host;
	} both[] = {
		{TUN_F_CSUM, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_CSUM},
		{TUN_F_TSO4, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_HOST_TSO4},
		{TUN_F_TSO6, VIRTIO_NET_F_GUEST_TSO6, VIRTIO_NET_F_HOST_TSO6},
		{TUN_F_TSO_ECN, VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_HOST_ECN},
		{TUN_F_USO4, VIRTIO_NET_F_GUEST_USO4, VIRTIO_NET_F_HOST_USO},
		{TUN_F_USO6, VIRTIO_NET_F_GUEST_USO6, VIRTIO_NET_F_HOST_USO},
	};
	uint64_t f = 0;

	for (size_t i = 0; i < sizeof(both) / sizeof(both[0]); i++)
		if (offloads & both[i].offload)
			f |= 1ULL << both[i].guest | 1ULL << both[i].host;
	return f;
}

unsigned net_accepted_offloads(uint64_t features)
{
	unsigned offloads = 0;

	if (!has_feature(features, VIRTIO_NET_F_GUEST_CSUM))
		return 0;
	offloads |= has_feature(features, VIRTIO_NET_F_GUEST_TSO4) ? TUN_F_TSO4 : 0;
	offloads |= has_feature(features, VIRTIO_NET_F_GUEST_TSO6) ? TUN_F_TSO6 : 0;
	if (offloads && has_feature(features, VIRTIO_NET_F_GUEST_ECN))
		offloads |= TUN_F_TSO_ECN;
	/*
	 * Sets the USO offloads only if the driver has accepted both USO features, because the
	 * kernel accepts TUN_F_USO4 and TUN_F_USO6 only together.
	 */
	if (has_feature(features, VIRTIO_NET_F_GUEST_USO4) &&
		has_feature(features, VIRTIO_NET_F_GUEST_USO6))
		offloads |= TUN_F_USO4 | TUN_F_USO6;
	return offloads | TUN_F_CSUM;
}
