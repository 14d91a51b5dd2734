/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares the simple devices: entropy, console and block. The init function of each prepares its
 * struct virtio_device for a transport. The release function may be called only after the last vCPU
 * and the event loop have ended. The caller owns all descriptors.
 */
#pragma once
#include <linux/virtio_blk.h>
#include <linux/virtio_console.h>

#include "vm/virtio/device.h"

/* --- entropy device (virtio 1.2, 5.4): getrandom(2), at most VIRTIO_RNG_MAX bytes a request --- */

#define VIRTIO_RNG_MAX 4096

struct virtio_rng {
	struct virtio_device dev;
	struct virtq_chain chain;
};

void virtio_rng_init(struct virtio_rng *r, const struct vm_memory *m);

/* --- console (virtio 1.2, 5.3): one port; queue 0 has input for the guest, queue 1 output --- */

struct virtio_console {
	struct virtio_device dev;
	struct virtio_console_config config;
	/* non-blocking descriptors; -EBADF: there is no input, and output is dropped */
	int in, out;
	bool out_full; /* `out` takes no more bytes, so the event loop waits until it is writable */
	bool in_full;  /* the guest has no buffer for input, so the event loop waits for its kick */
	bool in_end;   /* the end of the input was reached */
	bool sending;  /* `tx` holds an output request of which `sent` bytes are written */
	uint64_t sent;
	struct virtq_chain tx, rx;
	struct iovec part[VIRTQ_CHAIN_MAX];
};

void virtio_console_init(struct virtio_console *c, const struct vm_memory *m, int in, int out);

/*
 * Return whether the event loop has to poll `in` (first function) or `out` (second) now. Both take
 * the lock.
 */
bool virtio_console_wants_input(struct virtio_console *c);
bool virtio_console_wants_output(struct virtio_console *c);

/*
 * Called when `in` is readable, or when `out` is writable. They return 1 if they have to be called
 * again soon.
 */
int virtio_console_input(struct virtio_console *c);
int virtio_console_output(struct virtio_console *c);

/* --- block device (virtio 1.2, 5.2): a raw file or a block device of the host --- */

#define VIRTIO_BLK_SECTOR 512

/*
 * The device uses direct I/O if the descriptor has O_DIRECT. Requests that are not aligned for
 * direct I/O go through a buffer, in whole blocks.
 *
 * The thread that calls virtio_kick() serves one request after the other, with preadv(2) and
 * similar calls. This is simple, but a slow disk delays the other devices of that thread.
 */
struct virtio_blk {
	struct virtio_device dev;
	struct virtio_blk_config config;
	int fd;
	uint64_t sectors;
	bool read_only;
	/* the driver has switched the cache off, and serve() still has to flush it */
	bool flush_owed;
	/*
	 * the flush after switching the cache off has failed; the next request that needs stable
	 * storage reports it
	 */
	bool flush_failed;
	/* direct I/O: required alignment of addresses, offsets and lengths in bytes; otherwise 1 */
	uint32_t align;
	uint8_t *bounce; /* buffer for requests that are not aligned; NULL if align is 1 */
	char serial[VIRTIO_BLK_ID_BYTES];
	struct virtq_chain chain;
	struct iovec part[VIRTQ_CHAIN_MAX];
};

/*
 * Makes a block device of the file fd. Its capacity is the present size of the file in whole
 * sectors. Returns -EINVAL if the capacity is 0 or, with O_DIRECT, if the size is not a multiple of
 * the block size.
 */
int virtio_blk_init(struct virtio_blk *b, const struct vm_memory *m, int fd, bool read_only,
	const char *serial) must_check;
void virtio_blk_release(struct virtio_blk *b);
