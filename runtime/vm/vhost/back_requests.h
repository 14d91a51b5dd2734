/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a vhost-user back end, and what each request changes in it. back.c waits and serves;
 * back_requests.c handles the requests. The caller of each function holds the device's lock.
 */
#pragma once
#include "vm/vhost/back_messages.h"
#include "vm/virtio/device.h"

struct vhost_queue {
	uint64_t desc, avail, used; /* addresses in the monitor */
	uint16_t size;              /* 0: not told yet */
	uint16_t base;              /* index of the next request while the queue does not run */
	bool has_addr, started, enabled;
	bool more; /* it has to be served without a kick */
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

/* The function for virtio_device.signal. */
void vhost_signal(void *transport, int queue);

/* Checks that the request belongs to no protocol feature, or to one that is in use. -EPROTO. */
int vhost_check_negotiated(const struct vhost_backend *b, uint32_t request) must_check;

/*
 * Handles the requests with an answer. 0: *m is the answer, and m->h.size the length of its
 * payload. 1: *m is not one of them.
 */
int vhost_answer_request(struct vhost_backend *b, struct vhost_message *m) must_check;

/* Handles all other requests. Descriptors that are kept are taken out of *m. */
int vhost_apply_request(struct vhost_backend *b, struct vhost_message *m) must_check;

/* Stops the queues and resets the device. The memory and the call descriptors stay. */
void vhost_reset(struct vhost_backend *b);
