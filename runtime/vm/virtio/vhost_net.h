/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network device whose frames another process moves: virtio 1.2, 5.1, by vhost-user. Its
 * configuration is this side's (MAC address, MTU, a link that is up), for back ends tell none.
 */
#pragma once
#include "vm/vhost/front.h"
#include "vm/virtio/virtio_net.h"

struct virtio_net_remote_options {
	int sock;         /* connected to the back end, the caller's */
	const char *peer; /* its name for messages, kept */
	uint8_t mac[6];
	uint16_t mtu; /* of the guest's interface, at least VIRTIO_NET_MTU_MIN; 0: the driver's
			 choice */
};

struct virtio_net_remote {
	struct vhost_user vhost;
	struct virtio_net_space config;
};

/* Errors as of vhost_user_init(). */
int virtio_net_remote_init(struct virtio_net_remote *n, const struct vm_memory *m,
	const struct virtio_net_remote_options *options) must_check;
