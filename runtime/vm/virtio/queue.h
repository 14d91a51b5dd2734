/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the device's side of a split virtqueue (virtio 1.2, 2.7). No other code reads rings.
 * The guest may write the rings at any time, even while this code reads them. So:
 *
 *  - each of the three rings is checked as a whole when the queue becomes ready, and does not
 *    change after that
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
#include "vm/snapshot/format.h"

#define VIRTQ_SIZE_MAX 1024 /* greatest queue size; a transport may allow less */
/*
 * The most descriptors of a chain, including its indirect table; equal to the kernel's IOV_MAX. A
 * struct virtq_chain for so many descriptors is too large for the stack.
 */
#define VIRTQ_CHAIN_MAX 1024

struct virtq {
	/*
	 * Guest addresses of the rings. The transport sets them before virtq_enable() and does not
	 * change them after it.
	 */
	uint64_t desc_at, avail_at, used_at;
	uint16_t size;
	bool ready;

	const struct vm_memory *memory;
	bool event_idx, indirect; /* whether the driver has accepted EVENT_IDX and INDIRECT_DESC */
	/*
	 * The transport calls virtq_arm() itself before it waits, so virtq_next() does not ask for
	 * kicks.
	 */
	bool watched;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;
	uint16_t next_avail, next_used;
	uint16_t signalled; /* value of next_used at the last interrupt */
};

/* The buffers of one request: first those that the device reads, then those that it writes. */
struct virtq_chain {
	uint16_t head;
	/* number of entries of iov that the device reads, and number that it writes */
	unsigned readable, writable;
	uint64_t read_len, write_len; /* bytes in the readable and in the writable buffers */
	struct iovec iov[VIRTQ_CHAIN_MAX];
};

/*
 * Makes the queue ready after it has checked size, alignment and place of the rings. If a ring is
 * invalid, returns -EINVAL with a message, and the queue stays stopped.
 */
int virtq_enable(struct virtq *q, const struct vm_memory *m) must_check;
void virtq_reset(struct virtq *q);

/*
 * Makes the queue ready like virtq_enable(), but continues at request next_avail, because another
 * process has served the requests before it.
 */
int virtq_resume(struct virtq *q, const struct vm_memory *m, uint16_t next_avail) must_check;

/*
 * virtq_save() writes the queue's state to the section of the snapshot that was begun last, and
 * virtq_load() reads it. virtq_load() checks the rings of a ready queue like virtq_enable(); the
 * caller has set event_idx and indirect.
 */
int virtq_save(const struct virtq *q, struct snapshot_writer *w) must_check;
int virtq_load(struct virtq *q, const struct vm_memory *m, struct snapshot_part *p) must_check;

/*
 * Translates the addresses of a ready queue's rings once more, after guest memory or these
 * addresses have changed. The indices of the queue stay. The device must have pushed all requests
 * that it had popped.
 */
int virtq_move(struct virtq *q, const struct vm_memory *m) must_check;

/*
 * Returns the number of requests, modulo 2^16, that this or another process has given back to the
 * driver.
 */
uint16_t virtq_done(const struct virtq *q);

/*
 * Takes the next request. Returns 1 with the request in *ret, 0 if there is none, or -EPROTO if the
 * driver broke the rules.
 */
int virtq_pop(struct virtq *q, struct virtq_chain *ret) must_check;

/*
 * Undoes the last `count` calls of virtq_pop() that took a request, so that the next calls take the
 * same requests once more. The device must not have given any of these requests back.
 */
void virtq_unpop(struct virtq *q, unsigned count);

/*
 * Reads the buffers of request `head`, which was taken and not given back, once more. Returns 0, or
 * -EPROTO if the driver broke the rules.
 */
int virtq_chain_at(const struct virtq *q, uint16_t head, struct virtq_chain *ret) must_check;

/*
 * Gives request `head` back to the driver, with `written` bytes of data in its writable part.
 * Requests may be given back in any order.
 */
void virtq_push(struct virtq *q, uint16_t head, uint32_t written);

/*
 * Give several requests back to the driver at once: virtq_stage() prepares one request, and
 * virtq_publish() makes all prepared ones visible.
 */
void virtq_stage(struct virtq *q, uint16_t head, uint32_t written);
void virtq_publish(struct virtq *q);

/*
 * Returns whether the driver wants an interrupt for the requests that were pushed since this
 * function last returned true.
 */
bool virtq_must_signal(struct virtq *q);

/*
 * Asks the driver for a kick at the next request. Returns true if a request has come in the
 * meantime, for which there will be no kick.
 */
bool virtq_arm(struct virtq *q);

/*
 * Asks the driver for a kick only after it has given `count` more requests, which must be fewer
 * than the queue has entries. A driver without EVENT_IDX kicks at the next request. Returns true if
 * so many requests have come in the meantime.
 */
bool virtq_arm_after(struct virtq *q, uint16_t count);

/* Returns how many requests of the driver wait to be taken; 0 if the queue does not run. */
uint16_t virtq_pending(const struct virtq *q);
/*
 * Returns how many requests were given back to the driver since virtq_must_signal() was last
 * called, modulo 2^16.
 */
uint16_t virtq_unsignalled(const struct virtq *q);

/*
 * Takes the next request like virtq_pop(). If there is none, asks the driver for a kick at the next
 * request, and then looks a second time. If this function returns 0, the driver will kick, unless
 * the queue is `watched`. The function looks only twice, so that a driver which takes requests back
 * cannot keep it in a loop.
 */
int virtq_next(struct virtq *q, struct virtq_chain *ret) must_check;

/* Tells the driver not to kick while the queue is being served. The driver may ignore this. */
void virtq_disarm(struct virtq *q);

/*
 * Copy data from the readable part of the request, or to its writable part, at `offset`. Both
 * functions return the number of bytes copied, which is less than `len` if the part ends earlier.
 */
size_t virtq_read(const struct virtq_chain *c, uint64_t offset, void *ret_data, size_t len);
size_t virtq_write(struct virtq_chain *c, uint64_t offset, const void *data, size_t len);

/*
 * Writes the buffers of the bytes [offset, offset + len) of the request's readable or writable part
 * into `ret`, which has VIRTQ_CHAIN_MAX entries. Returns how many entries it has used.
 */
unsigned virtq_slice(const struct virtq_chain *c, bool writable, uint64_t offset, uint64_t len,
	struct iovec *ret);
