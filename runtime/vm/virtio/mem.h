/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the memory device (virtio 1.2, 5.15): memory that the guest gets while it runs, and
 * gives back. The device has a range of guest addresses behind RAM (vm_memory_region.hot), divided
 * into blocks. The host requests a size; the driver plugs blocks until it has as much, or unplugs
 * blocks until it has no more. The host's memory behind a block is free as soon as the block is
 * unplugged.
 *
 * A guest that uses a block which is not plugged breaks the rules and gets memory all the same, but
 * never more than the whole range, and never more than the machine's cgroup allows.
 */
#pragma once
#include <linux/virtio_mem.h>

#include "vm/virtio/device.h"

/* bytes of a block; a size that is requested is a multiple of it */
#define VIRTIO_MEM_BLOCK (UINT64_C(2) << 20)

struct virtio_mem {
	struct virtio_device dev;
	struct virtio_mem_config config;
	uint8_t *host;    /* the range in this process's memory */
	uint64_t blocks;  /* number of blocks of the range */
	uint8_t *plugged; /* a bit for each block, in blocks / 8 + 1 bytes */
	struct virtq_chain chain;
};

/* Makes the device for the range of `m` that is hot; without one the device has no block. */
int virtio_mem_init(struct virtio_mem *v, const struct vm_memory *m) must_check;
void virtio_mem_release(struct virtio_mem *v);

/*
 * Asks the guest to have `bytes` bytes of the range, a multiple of VIRTIO_MEM_BLOCK. Any thread may
 * call this, and again with the same size: Linux tries at once then, and otherwise waits for 50
 * seconds and more after it could not free a block.
 */
void virtio_mem_request(struct virtio_mem *v, uint64_t bytes);
/* Tells how many bytes were requested, and how many the guest has. Any thread may call this. */
void virtio_mem_read(struct virtio_mem *v, uint64_t *ret_requested, uint64_t *ret_plugged);
/*
 * Returns where the last block that the guest has ends, in bytes from the beginning of the range.
 * The caller is the thread that serves the device. Without a device there is no block.
 */
uint64_t virtio_mem_end(const struct virtio_mem *v);
