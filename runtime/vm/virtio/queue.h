/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's side of a split virtqueue (virtio 1.2, 2.7); the only code that reads rings,
 * whatever the transport. The guest may write all of it at any time, from another vCPU too, so:
 *
 *   - the three rings are checked once, whole, when the queue becomes ready, and then frozen
 *   - every index and descriptor is copied once and only the copy is looked at
 *   - a chain has at most VIRTQ_CHAIN_MAX descriptors, which ends loops too
 *   - each buffer lies in one region of guest memory, or the chain is refused
 *
 * A guest that breaks the rules gets -EPROTO with a message: the device then needs a reset. The
 * caller holds the device's lock.
 */
#pragma once
#include <linux/virtio_ring.h>
#include <sys/uio.h>

#include "vm/memory.h"

#define VIRTQ_SIZE_MAX 1024 /* a transport may allow less */
/* Descriptors of a chain, with its indirect table; the kernel's IOV_MAX. Too large for a stack. */
#define VIRTQ_CHAIN_MAX 1024

struct virtq {
	/* Set by the transport before virtq_enable(), never after it. Guest addresses. */
	uint64_t desc_at, avail_at, used_at;
	uint16_t size;
	bool ready;

	const struct vm_memory *memory;
	bool event_idx, indirect; /* negotiated */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_avail, next_used;
	uint16_t signalled; /* next_used when the driver was last told */
};

/* The buffers of one request: first those the device reads, then those it writes. */
struct virtq_chain {
	uint16_t head;
	unsigned readable, writable;  /* entries of iov */
	uint64_t read_len, write_len; /* bytes */
	struct iovec iov[VIRTQ_CHAIN_MAX];
};

/*
 * Checks size, alignment and place of the rings. -EINVAL with a message; the queue is not ready
 * then.
 */
int virtq_enable(struct virtq *q, const struct vm_memory *m) must_check;
void virtq_reset(struct virtq *q);

/* As virtq_enable(), but goes on where another device side has stopped: after request next_avail.
 */
int virtq_resume(struct virtq *q, const struct vm_memory *m, uint16_t next_avail) must_check;

/*
 * Looks the rings of a ready queue up again, in memory that has changed. The addresses may have
 * too, the state is kept. What was popped must have been pushed.
 */
int virtq_move(struct virtq *q, const struct vm_memory *m) must_check;

/* How many requests the driver has had back, whoever serves the queue; modulo 2^16. */
uint16_t virtq_done(const struct virtq *q);

/* 1: *ret is the next request. 0: there is none. -EPROTO: the driver broke the queue. */
int virtq_pop(struct virtq *q, struct virtq_chain *ret) must_check;

/*
 * Gives a request back, `written` bytes of whose writable part now hold data. In any order: a
 * request may stay with the device while later ones are served.
 */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written);

/* As virtq_push(), for requests that the driver must see all at once: with virtq_publish(). */
void virtq_stage(struct virtq *q, uint16_t head, uint32_t written);
void virtq_publish(struct virtq *q);

/* Whether the driver wants an interrupt for what was pushed since this last said yes. */
bool virtq_must_signal(struct virtq *q);

/* Asks for a kick at the next request. True: one has come meanwhile, so that no kick will. */
bool virtq_arm(struct virtq *q);

/*
 * As virtq_pop(); where there is none, asks for a kick and looks once more. 0: the kick will come.
 * A driver that takes back what it offered can't keep us here.
 */
int virtq_next(struct virtq *q, struct virtq_chain *ret) must_check;

/* Asks for none: a hint, for while the queue is being served. */
void virtq_disarm(struct virtq *q);

/* Copy from the readable, or to the writable part, at offset. The number of bytes there were. */
size_t virtq_read(const struct virtq_chain *c, uint64_t offset, void *ret_data, size_t len);
size_t virtq_write(struct virtq_chain *c, uint64_t offset, const void *data, size_t len);

/*
 * The bytes [offset, offset + len) of the readable or writable part; ret has VIRTQ_CHAIN_MAX
 * entries.
 */
unsigned virtq_slice(const struct virtq_chain *c, bool writable, uint64_t offset, uint64_t len,
	struct iovec *ret);
