/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network device whose frames another process moves (virtio 1.2, 5.1, by vhost-user). This
 * process provides the configuration (MAC address, MTU, a link that is up), because back ends have
 * none.
 */
#pragma once
#include "vm/vhost/front.h"
#include "vm/virtio/virtio_net.h"

struct virtio_net_remote_options {
	int sock;         /* connected to the back end; it stays the caller's */
	const char *peer; /* name of the back end, for messages; the pointer is kept */
	uint8_t mac[6];
	/* of the guest's interface, at least VIRTIO_NET_MTU_MIN; 0: the driver chooses */
	uint16_t mtu;
};

struct virtio_net_remote {
	struct vhost_user vhost;
	struct virtio_net_space config;
};

/* The errors are those of vhost_user_init(). */
int virtio_net_remote_init(struct virtio_net_remote *n, const struct vm_memory *m,
	const struct virtio_net_remote_options *options) must_check;
