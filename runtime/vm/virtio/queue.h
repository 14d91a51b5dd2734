/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The device's side of a split virtqueue (virtio 1.2, 2.7). This is the only code that reads rings,
 * for all transports. The guest may write the rings at any time, from another vCPU too. So:
 *
 *  - each of the three rings is checked as a whole when the queue becomes ready, and is fixed then
 *  - each index and descriptor is copied once, and only the copy is used
 *  - a chain has at most VIRTQ_CHAIN_MAX descriptors, which also stops loops
 *  - each buffer lies in one region of guest memory, or the chain is refused
 *
 * If the guest breaks the rules, the functions return -EPROTO with a message, and the device needs
 * a reset. The caller holds the device's lock.
 */
#pragma once
#include <linux/virtio_ring.h>
#include <sys/uio.h>

#include "vm/memory.h"

#define VIRTQ_SIZE_MAX 1024 /* a transport may allow less */
/*
 * Descriptors of a chain, with its indirect table; the kernel's IOV_MAX. A chain of that length is
 * too large for a stack.
 */
#define VIRTQ_CHAIN_MAX 1024

struct virtq {
	/* Guest addresses. The transport sets them before virtq_enable(), and never after it. */
	uint64_t desc_at, avail_at, used_at;
	uint16_t size;
	bool ready;

	const struct vm_memory *memory;
	bool event_idx, indirect; /* negotiated */
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_avail, next_used;
	uint16_t signalled; /* next_used at the last interrupt */
};

/* The buffers of one request: first those that the device reads, then those that it writes. */
struct virtq_chain {
	uint16_t head;
	unsigned readable, writable;  /* number of entries of iov */
	uint64_t read_len, write_len; /* bytes */
	struct iovec iov[VIRTQ_CHAIN_MAX];
};

/*
 * Checks the size, alignment and place of the rings. -EINVAL, with a message; the queue is not
 * ready then.
 */
int virtq_enable(struct virtq *q, const struct vm_memory *m) must_check;
void virtq_reset(struct virtq *q);

/* Does the same, but continues after request next_avail, where another device side has stopped. */
int virtq_resume(struct virtq *q, const struct vm_memory *m, uint16_t next_avail) must_check;

/*
 * Finds the rings of a ready queue again, because guest memory has changed. The rings' addresses
 * may have changed too; the queue's state is kept. All popped requests must have been pushed.
 */
int virtq_move(struct virtq *q, const struct vm_memory *m) must_check;

/* The number of requests that were given back to the driver, by whichever process; modulo 2^16. */
uint16_t virtq_done(const struct virtq *q);

/*
 * Returns 1 and the next request in *ret, 0 if there is none, or -EPROTO if the driver broke the
 * rules.
 */
int virtq_pop(struct virtq *q, struct virtq_chain *ret) must_check;

/*
 * Gives a request back whose writable part now holds `written` bytes of data. The order is free: a
 * request may stay with the device while later ones are served.
 */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written);

/* Push requests that the driver must see all at once: stages each of them, then publishes all. */
void virtq_stage(struct virtq *q, uint16_t head, uint32_t written);
void virtq_publish(struct virtq *q);

/*
 * Whether the driver wants an interrupt for the requests that were pushed since this last returned
 * true.
 */
bool virtq_must_signal(struct virtq *q);

/*
 * Asks for a kick at the next request. True: one has come in the meantime, so there will be no kick
 * for it.
 */
bool virtq_arm(struct virtq *q);

/*
 * Returns the next request like virtq_pop(). If there is none, it asks for a kick and looks once
 * more. 0: the kick will come. It looks only twice, so a driver that takes requests back cannot
 * keep it here.
 */
int virtq_next(struct virtq *q, struct virtq_chain *ret) must_check;

/* Asks for no kicks. This is a hint for the time in which the queue is served. */
void virtq_disarm(struct virtq *q);

/*
 * Copy from the readable part, or to the writable part, at `offset`. They return the number of
 * bytes copied, which is less than `len` if the part ends earlier.
 */
size_t virtq_read(const struct virtq_chain *c, uint64_t offset, void *ret_data, size_t len);
size_t virtq_write(struct virtq_chain *c, uint64_t offset, const void *data, size_t len);

/*
 * Gives the bytes [offset, offset + len) of the readable or writable part. `ret` has
 * VIRTQ_CHAIN_MAX entries; returns how many are used.
 */
unsigned virtq_slice(const struct virtq_chain *c, bool writable, uint64_t offset, uint64_t len,
	struct iovec *ret);
