/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares the simple devices: entropy and console. The init function of each device prepares its
 * struct virtio_device for a transport. The release function may be called only after the last vCPU
 * and the event loop have ended. The caller owns all descriptors.
 */
#pragma once
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
	/* non-blocking descriptors; -EBADF: there is no input, or output is dropped */
	int in, out;
	bool out_full; /* `out` takes no more bytes, so the event loop waits until it is writable */
	/* the guest has no buffer for input, so the event loop waits for the guest's kick */
	bool in_full;
	bool in_end;  /* the end of the input was reached */
	bool sending; /* `tx` holds an output request of which `sent` bytes are written */
	uint64_t sent;
	/*
	 * bytes of the next output request that were written before the request was put back into
	 * the queue
	 */
	uint64_t skip;
	struct virtq_chain tx, rx;
	struct iovec part[VIRTQ_CHAIN_MAX];
};

void virtio_console_init(struct virtio_console *c, const struct vm_memory *m, int in, int out);

/*
 * Return whether the event loop has to poll the descriptor `in`, or the descriptor `out`, now. Both
 * functions take the lock.
 */
bool virtio_console_wants_input(struct virtio_console *c);
bool virtio_console_wants_output(struct virtio_console *c);

/*
 * The event loop calls virtio_console_input() when `in` is readable, and virtio_console_output()
 * when `out` is writable. A result of 1 means that the function has to be called again soon.
 */
int virtio_console_input(struct virtio_console *c);
int virtio_console_output(struct virtio_console *c);
