/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The devices. Each has an init, which leaves a struct virtio_device for a transport, and a release
 * for after the last vCPU and the event loop have ended. Descriptors stay the caller's.
 */
#pragma once
#include <linux/virtio_blk.h>
#include <linux/virtio_console.h>

#include "vm/virtio/device.h"

/* --- entropy (virtio 1.2, 5.4): getrandom(2), at most VIRTIO_RNG_MAX bytes a request --- */

#define VIRTIO_RNG_MAX 4096

struct virtio_rng {
	struct virtio_device dev;
	struct virtq_chain chain;
};

void virtio_rng_init(struct virtio_rng *r, const struct vm_memory *m);

/* --- console (5.3): one port, no multiport; queue 0 to the guest, queue 1 from it --- */

struct virtio_console {
	struct virtio_device dev;
	struct virtio_console_config config;
	int in, out;   /* non-blocking; -EBADF: no input, output thrown away */
	bool out_full; /* out took less than there was: wait for it to be writable */
	bool in_full;  /* the guest has no room for input: wait for its kick */
	bool in_end;   /* in has ended */
	bool sending;  /* tx holds a request of which `sent` bytes are written */
	uint64_t sent;
	struct virtq_chain tx, rx;
	struct iovec part[VIRTQ_CHAIN_MAX];
};

void virtio_console_init(struct virtio_console *c, const struct vm_memory *m, int in, int out);

/* What to poll for now; takes the lock. False where there is nothing to wait for. */
bool virtio_console_wants_input(struct virtio_console *c);
bool virtio_console_wants_output(struct virtio_console *c);

/* `in` is readable, `out` is writable. 1: call again soon. */
int virtio_console_input(struct virtio_console *c);
int virtio_console_output(struct virtio_console *c);

/* --- block device (5.2): a raw file or block device --- */

#define VIRTIO_BLK_SECTOR 512

/*
 * Direct I/O is the descriptor's O_DIRECT. What of a request is not aligned for it goes through a
 * buffer of ours, whole blocks at a time.
 *
 * Requests are served one after the other by preadv(2) and friends in the thread that calls
 * virtio_kick(): simple and right, but one slow disk holds up that thread's other devices.
 */
struct virtio_blk {
	struct virtio_device dev;
	struct virtio_blk_config config;
	int fd;
	uint64_t sectors;
	bool read_only;
	bool flush_owed;   /* the cache was switched off: what is in it is for serve() to flush */
	bool flush_failed; /* which failed: for the next request that wants to be stable to say */
	uint32_t align;    /* of direct I/O: addresses, offsets and lengths; else 1 */
	uint8_t *bounce;   /* where align > 1 */
	char serial[VIRTIO_BLK_ID_BYTES];
	struct virtq_chain chain;
	struct iovec part[VIRTQ_CHAIN_MAX];
};

/*
 * The capacity is the file's size now, in whole sectors; -EINVAL where it is none, or with O_DIRECT
 * not whole blocks.
 */
int virtio_blk_init(struct virtio_blk *b, const struct vm_memory *m, int fd, bool read_only,
	const char *serial) must_check;
void virtio_blk_release(struct virtio_blk *b);
