/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The memory balloon (virtio 1.2, 5.5). If the host asks for memory, the guest gives pages away
 * until the host has as much as it asked for, and takes pages back when it needs them itself
 * (DEFLATE_ON_OOM). The guest also reports pages that it does not use at the moment, without being
 * asked (REPORTING). In both cases the host's memory behind the pages is free at once, and the
 * guest finds fresh pages when it touches them again.
 *
 * The queues are numbered without gaps, as drivers and other monitors do it: inflate, deflate,
 * reporting.
 */
#pragma once
#include <linux/virtio_balloon.h>

#include "vm/virtio/device.h"

#define VIRTIO_BALLOON_PAGE 4096 /* unit of page numbers, for any page size of the guest */
/* num_pages and actual; the members after them belong to features that are not offered */
#define VIRTIO_BALLOON_CONFIG_LEN 8
#define VIRTIO_BALLOON_TURN 8192 /* pages that are handled before other devices get their turn */

struct virtio_balloon {
	struct virtio_device dev;
	struct virtio_balloon_config config;
	/*
	 * The inflate request that is under way, if `inflating`; its first `done` bytes are
	 * handled.
	 */
	struct virtq_chain numbers;
	bool inflating;
	uint64_t done;
	struct virtq_chain chain; /* the request of another queue */
	uint64_t discarded;       /* pages given back to the host since the start */
};

void virtio_balloon_init(struct virtio_balloon *b, const struct vm_memory *m);

/*
 * Asks the guest for this many pages of VIRTIO_BALLOON_PAGE bytes; 0 gives all back. Any thread may
 * call it.
 *
 * For the hotplug of memory (issue 18). Until that comes only tests call this and
 * virtio_balloon_actual(): pages that the container does not use come back by reports.
 */
void virtio_balloon_set_target(struct virtio_balloon *b, uint32_t pages);

/* The number of pages that the guest says it has given. */
uint32_t virtio_balloon_actual(struct virtio_balloon *b);
