/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the memory balloon (virtio 1.2, 5.5). If the host asks for memory, the guest gives it
 * pages until the host has as much as it asked for. The guest takes pages back if it needs them
 * itself (DEFLATE_ON_OOM). The guest also reports pages that it does not use at the moment, without
 * being asked (REPORTING). In both cases the host's memory behind the pages is free at once. If the
 * guest uses such a page again, the host gives it fresh memory.
 *
 * The queues are inflate (0), deflate (1) and reporting (2). Their numbers have no gap for queues
 * that are not offered, because drivers and other virtual machine monitors number the queues in
 * this way.
 */
#pragma once
#include <linux/virtio_balloon.h>

#include "vm/virtio/device.h"

/*
 * bytes of a page in the page numbers that the guest sends, whatever page size the guest's kernel
 * uses
 */
#define VIRTIO_BALLOON_PAGE 4096
/*
 * bytes of the configuration: num_pages and actual; the members after them belong to features that
 * are not offered
 */
#define VIRTIO_BALLOON_CONFIG_LEN 8
/*
 * how many pages one call of serve() handles, so that the event loop can serve other devices in
 * between
 */
#define VIRTIO_BALLOON_TURN 8192

struct virtio_balloon {
	struct virtio_device dev;
	struct virtio_balloon_config config;
	/*
	 * The inflate request that is being handled, if `inflating` is set. Its first `done` bytes
	 * are finished.
	 */
	struct virtq_chain numbers;
	bool inflating;
	uint64_t done;
	/* the request of the deflate or the reporting queue that is being handled */
	struct virtq_chain chain;
	uint64_t discarded; /* number of pages given back to the host since the start */
};

void virtio_balloon_init(struct virtio_balloon *b, const struct vm_memory *m);

/*
 * Asks the guest to give the host `pages` pages of VIRTIO_BALLOON_PAGE bytes in total; 0 returns
 * all pages to the guest. Any thread may call this.
 */
void virtio_balloon_set_target(struct virtio_balloon *b, uint32_t pages);
/* Returns the number of pages that virtio_balloon_set_target() has asked for. */
uint32_t virtio_balloon_target(struct virtio_balloon *b);

/* Returns how many pages the guest says it has given to the host. */
uint32_t virtio_balloon_actual(struct virtio_balloon *b);
