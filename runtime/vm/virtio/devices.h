/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simple devices: entropy, console and block. Each has an init, after which its struct
 * virtio_device can be given to a transport. A release is called after the last vCPU and the event
 * loop have ended. Descriptors stay the caller's.
 */
#pragma once
#include <linux/virtio_blk.h>
#include <linux/virtio_console.h>

#include "vm/virtio/device.h"

/* --- entropy (virtio 1.2, 5.4): getrandom(2), at most VIRTIO_RNG_MAX bytes for each request --- */

#define VIRTIO_RNG_MAX 4096

struct virtio_rng {
	struct virtio_device dev;
	struct virtq_chain chain;
};

void virtio_rng_init(struct virtio_rng *r, const struct vm_memory *m);

/*
 * --- console (5.3): one port, no multiport; queue 0 goes to the guest, queue 1 comes from it ---
 */

struct virtio_console {
	struct virtio_device dev;
	struct virtio_console_config config;
	int in, out;   /* non-blocking; -EBADF: no input, and output is dropped */
	bool out_full; /* `out` takes no more bytes, so the loop waits until it is writable */
	bool in_full;  /* the guest has no room for input, so the loop waits for its kick */
	bool in_end;   /* the input has ended */
	bool sending;  /* tx holds a request of which `sent` bytes are written */
	uint64_t sent;
	struct virtq_chain tx, rx;
	struct iovec part[VIRTQ_CHAIN_MAX];
};

void virtio_console_init(struct virtio_console *c, const struct vm_memory *m, int in, int out);

/* Whether the loop has to poll `in` or `out` now. Both take the lock. */
bool virtio_console_wants_input(struct virtio_console *c);
bool virtio_console_wants_output(struct virtio_console *c);

/*
 * Called when `in` is readable or `out` is writable. They return 1 if they have to be called again
 * soon.
 */
int virtio_console_input(struct virtio_console *c);
int virtio_console_output(struct virtio_console *c);

/* --- block device (5.2): a raw file or block device --- */

#define VIRTIO_BLK_SECTOR 512

/*
 * I/O is direct if the descriptor has O_DIRECT. The parts of a request that are not aligned for it
 * go through a buffer, in whole blocks.
 *
 * The thread that calls virtio_kick() serves one request after the other, with preadv(2) and the
 * like. This is simple, but a slow disk delays the other devices of that thread.
 */
struct virtio_blk {
	struct virtio_device dev;
	struct virtio_blk_config config;
	int fd;
	uint64_t sectors;
	bool read_only;
	bool flush_owed; /* the driver switched the cache off, so serve() has to flush it */
	/* that flush failed; the next request that needs stable storage reports it */
	bool flush_failed;
	uint32_t align;  /* direct I/O: alignment of addresses, offsets and lengths; else 1 */
	uint8_t *bounce; /* NULL if align is 1 */
	char serial[VIRTIO_BLK_ID_BYTES];
	struct virtq_chain chain;
	struct iovec part[VIRTQ_CHAIN_MAX];
};

/*
 * The capacity is the present size of the file in whole sectors. -EINVAL if that is 0, or with
 * O_DIRECT if it is not a multiple of the block size.
 */
int virtio_blk_init(struct virtio_blk *b, const struct vm_memory *m, int fd, bool read_only,
	const char *serial) must_check;
void virtio_blk_release(struct virtio_blk *b);
