/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a network device (virtio 1.2, 5.1) whose frames another process moves by vhost-user. This
 * process provides the configuration (MAC address, MTU, a link that is up), because back ends have
 * none.
 */
#pragma once
#include "vm/vhost/front.h"
#include "vm/virtio/virtio_net.h"

struct virtio_net_remote_options {
	int sock; /* socket connected to the back end; the caller closes it */
	/* name of the back end for error messages; the device keeps the pointer */
	const char *peer;
	uint8_t mac[6];
	/*
	 * MTU that the guest's interface gets, at least VIRTIO_NET_MTU_MIN; 0: the driver chooses
	 */
	uint16_t mtu;
	bool owned; /* the same as in struct vhost_user_options */
};

struct virtio_net_remote {
	struct vhost_user vhost;
	struct virtio_net_space config;
};

/* Makes the network device. The errors are those of vhost_user_init(). */
int virtio_net_remote_init(struct virtio_net_remote *n, const struct vm_memory *m,
	const struct virtio_net_remote_options *options) must_check;
