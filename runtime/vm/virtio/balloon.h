/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory balloon (virtio 1.2, 5.5): the host asks for memory back, the guest gives pages away
 * until it has it, and takes them again when it needs them itself (DEFLATE_ON_OOM). Without being
 * asked it reports pages that it does not use at the moment (REPORTING). Either way the host's
 * memory behind them is free at once, and a page that is touched again is a fresh one.
 *
 * Queues are numbered without gaps, as drivers and monitors have it: inflate, deflate, reporting.
 */
#pragma once
#include <linux/virtio_balloon.h>

#include "vm/virtio/device.h"

#define VIRTIO_BALLOON_PAGE 4096    /* the unit of page numbers, whatever the guest's pages are */
#define VIRTIO_BALLOON_CONFIG_LEN 8 /* num_pages and actual: what follows belongs to features */
#define VIRTIO_BALLOON_TURN 8192    /* pages dealt with before others have their turn */

struct virtio_balloon {
	struct virtio_device dev;
	struct virtio_balloon_config config;
	struct virtq_chain numbers; /* of the inflate request that is under way, */
	bool inflating;             /* if there is one: its first `done` bytes are dealt with */
	uint64_t done;
	struct virtq_chain chain; /* of the other queues */
	uint64_t discarded;       /* pages given back to the host, ever */
};

void virtio_balloon_init(struct virtio_balloon *b, const struct vm_memory *m);

/*
 * Asks the guest for so many pages of VIRTIO_BALLOON_PAGE bytes; 0 gives all back. Any thread.
 *
 * For tests: the monitor asks for nothing, since what the container does not use comes back by
 * reports. But a guest may fill these queues at any time, and Linux's driver does so only if asked.
 */
void virtio_balloon_set_target(struct virtio_balloon *b, uint32_t pages);

/* How many the guest says that it has given. */
uint32_t virtio_balloon_actual(struct virtio_balloon *b);
