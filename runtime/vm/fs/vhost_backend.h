/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The back end's side of vhost-user (QEMU, docs/interop/vhost-user.rst): the monitor tells over a
 * Unix socket where the guest's memory and the device's queues are.
 *
 *	vhost_init(), then vhost_message() whenever the socket is readable, until it returns 0
 *	queues that are ready (vhost_ready()) are served when their kick descriptor is readable
 *
 * Which features are offered: virtio 1, indirect descriptors, event index; protocol features MQ and
 * REPLY_ACK. One thread.
 */
#pragma once
#include <stdint.h>

#include "fd.h"
#include "vring.h"

#define VHOST_MAX_QUEUES 17 /* the high-priority queue and 16 of requests */
#define VHOST_MAX_REGIONS 8 /* as the protocol has it without CONFIGURE_MEM_SLOTS */

struct vhost_region {
	uint64_t guest, size, user; /* user: its address in the monitor, in which rings are told */
	uint8_t *host;
	void *map;
	size_t map_len;
};

struct vhost_queue {
	struct vring_queue ring;
	uint64_t user_desc, user_avail, user_used;
	uint16_t base;
	bool has_addr, started, enabled;
	int kick, call;
};

struct vhost_device {
	int sock;
	uint64_t features, protocol;
	uint32_t nregions;
	struct vhost_region region[VHOST_MAX_REGIONS];
	struct vhost_queue queue[VHOST_MAX_QUEUES];
	/*
	 * Called before a queue stops or memory goes: what is under way on queue q must be answered
	 * now, and no pointer into guest memory kept.
	 */
	void (*quiesce)(void *ctx, struct vhost_queue *q);
	void *ctx;
};

void vhost_init(struct vhost_device *d, int sock);
void vhost_release(struct vhost_device *d);

/* Receives one message and does what it says. 1; 0: the socket was closed; -EPROTO, or a system
 * error. */
int vhost_message(struct vhost_device *d) must_check;

static inline bool vhost_ready(const struct vhost_queue *q)
{
	return q->started && q->enabled;
}

/* Empties the kick descriptor. */
int vhost_take_kick(struct vhost_queue *q) must_check;
/* Interrupts the guest for what vring_done() gave back, where it wants that. */
void vhost_signal(struct vhost_queue *q);
