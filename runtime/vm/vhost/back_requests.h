/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vhost-user back end's state, and what each request does to it: between back.c, which
 * waits and serves, and back_requests.c. Everything here is called with the device's lock held.
 */
#pragma once
#include "vm/vhost/back_messages.h"
#include "vm/virtio/device.h"

struct vhost_queue {
	uint64_t desc, avail, used; /* the monitor's addresses */
	uint16_t size;              /* 0: not yet told */
	uint16_t base;              /* the next request, while it does not run */
	bool has_addr, started, enabled;
	bool more; /* to be served without a kick */
	int kick, call;
};

struct vhost_backend {
	struct virtio_device *device;
	int sock, stop_fd;
	uint64_t features; /* with F_PROTOCOL */
	uint64_t protocol;
	struct vm_memory memory;
	bool event_more;
	struct vhost_queue queues[VIRTIO_QUEUES_MAX];
};

/* For virtio_device.signal. */
void vhost_signal(void *transport, int queue);

/* Whether the request belongs to a protocol feature that is in use, or to none. -EPROTO. */
int vhost_check_negotiated(const struct vhost_backend *b, uint32_t request) must_check;

/* Requests with an answer: 0, and *m is it, m->h.size its payload's length. 1: *m is none of them.
 */
int vhost_answer(struct vhost_backend *b, struct vhost_message *m) must_check;

/* All others. Descriptors that are kept are taken out of *m. */
int vhost_act(struct vhost_backend *b, struct vhost_message *m) must_check;

/* Stops the queues and resets the device; memory and call descriptors stay. */
void vhost_reset(struct vhost_backend *b);
