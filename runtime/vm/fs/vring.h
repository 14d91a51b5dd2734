/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's side of a split virtqueue (virtio 1.2, 2.7) whose addresses another process gave us.
 * The only code here that reads rings. The guest can write all of it at any time, so each
 * descriptor is copied once, a chain is no longer than the queue, and every segment lies in one
 * region of the guest's memory.
 */
#pragma once
#include <linux/virtio_ring.h>
#include <sys/uio.h>

#include "err.h"

#define VRING_MAX 1024 /* the largest queue; also the kernel's IOV_MAX */

/* The host address of guest memory [guest, guest + len), len > 0, in one region, or NULL. */
typedef void *vring_at_fn(void *ctx, uint64_t guest, uint64_t len);

struct vring_queue {
	uint32_t num; /* a power of two up to VRING_MAX */
	bool event_idx, indirect;
	vring_at_fn *at;
	void *ctx;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_avail, next_used;
	uint16_t signalled; /* next_used when the guest was last told */
};

/* What the driver gave: segments the device reads, then segments it writes. */
struct vring_chain {
	uint16_t head;
	unsigned int nin, nout;
	struct iovec iov[VRING_MAX]; /* nin, then nout */
};

/* Bytes that each part of a queue of num takes. */
size_t vring_desc_size(uint32_t num);
size_t vring_avail_size(uint32_t num);
size_t vring_used_size(uint32_t num);

/* 1: a chain; 0: none is there; -EPROTO: the driver broke the queue. */
int vring_next(struct vring_queue *q, struct vring_chain *ret) must_check;

/* Gives a chain back, of which len bytes were written. */
void vring_done(struct vring_queue *q, uint16_t head, uint32_t len);

/* Whether the driver wants to be told of what was given back since this was last true. */
bool vring_must_signal(struct vring_queue *q);

/* Asks for kicks, or for none. After asking, true: something came meanwhile, look again. */
bool vring_want_kicks(struct vring_queue *q, bool on);
