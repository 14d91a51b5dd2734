/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device as transports and devices both know it: queues, features and the status
 * register (virtio 1.2, 2.1 and 3.1). Devices don't know their transport, transports don't know
 * what a device does.
 *
 * Threads: vCPU threads write registers, the event loop serves queues and host descriptors; each
 * holds `lock`. A device therefore never sees a reset in the middle of a request.
 */
#pragma once
#include <linux/virtio_config.h>
#include <pthread.h>

#include "vm/virtio/queue.h"

#define VIRTIO_QUEUES_MAX 17 /* virtio-fs: the high-priority queue and 16 of requests */

#define VIRTIO_SIGNAL_CONFIG (-1)

struct virtio_device;

struct virtio_ops {
	/*
	 * Serves queue `index`, of at most `budget` requests; the lock is held. 0: nothing is left.
	 * 1: more may be there, call again soon. < 0: the driver broke the rules, the message says
	 * how.
	 */
	int (*serve)(struct virtio_device *d, unsigned index, unsigned budget);
	void (*reset)(
		struct virtio_device *d); /* drop what is under way; NULL if nothing ever is */
	/*
	 * event_fd is readable: something of the host's is ready for the device. Takes the lock
	 * itself. 1: call again soon. NULL where event_fd is -EBADF.
	 */
	int (*event)(struct virtio_device *d);
	/*
	 * The driver wrote to the configuration; the lock is held. NULL: it is read-only. As start
	 * and reset it runs in the vCPU's thread, which has few system calls (jail_calls.c) and
	 * should not wait.
	 */
	void (*configure)(struct virtio_device *d, uint32_t offset, const void *data, unsigned len);
	/* DRIVER_OK was set; the lock is held. < 0: needs a reset. NULL: nothing is to be done. */
	int (*start)(struct virtio_device *d);
	/*
	 * Queue `index` is about to stop, or guest memory to change (vhost-user; the lock is held):
	 * push what was popped of it and keep no pointer into guest memory. What the device knows
	 * otherwise stays, for the queue may go on. NULL: nothing is kept between calls.
	 */
	void (*quiesce)(struct virtio_device *d, unsigned index);
};

struct virtio_device {
	/* Set by the device's init, constant. */
	const struct virtio_ops *ops;
	const char *name;
	uint32_t id;        /* virtio 1.2, 5 */
	uint64_t features;  /* offered, beside VIRTIO_COMMON_FEATURES */
	uint64_t withheld;  /* of those, what this device does not offer */
	const void *config; /* little-endian, as the driver reads it */
	uint32_t config_len;
	unsigned queue_count;
	/*
	 * Another process serves the queues (vhost/front.h): it gets the kicks, and interrupts the
	 * driver for used buffers, past the transport.
	 */
	bool remote;
	const struct vm_memory *memory;
	/*
	 * What the thread that serves the device polls for it besides kicks: an epoll or event
	 * descriptor of the device's own, so that transports need not know what is in it. Set after
	 * virtio_init(), which makes it -EBADF: nothing to wait for.
	 */
	int event_fd;
	/*
	 * Set by the transport: tells the driver of used buffers in `queue`, or (_SIGNAL_CONFIG) of
	 * a change of configuration.
	 */
	void (*signal)(void *transport, int queue);
	void *transport;
	/*
	 * Set by the transport: eventfds, one a queue (NULL: kicks are served at once), and the
	 * interrupt's, for a remote device.
	 */
	const int *kicks;
	int call;

	pthread_mutex_t lock; /* of what follows */
	uint32_t status;
	uint32_t generation; /* of the configuration */
	uint64_t driver_features;
	struct virtq queues[VIRTIO_QUEUES_MAX];
	char broken[256]; /* why DEVICE_NEEDS_RESET is set; kept until the next one */
	unsigned long resets_needed;
};

#define VIRTIO_COMMON_FEATURES \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX | \
		1ULL << VIRTIO_RING_F_INDIRECT_DESC)

/* Completes a device whose constant part is set. */
void virtio_init(struct virtio_device *d, const struct vm_memory *m);
void virtio_release(struct virtio_device *d);

/* For transports; the lock is held. What a state does not allow is ignored, as 2.1 has it. */
void virtio_set_status(struct virtio_device *d, uint32_t status);
void virtio_set_features(struct virtio_device *d, unsigned half, uint32_t bits);
/*
 * For transports without a status register: the driver accepts these features, and is ready.
 * -EPROTO with a message: not offered, and nothing has changed.
 */
int virtio_accept(struct virtio_device *d, uint64_t features) must_check;
uint32_t virtio_features(const struct virtio_device *d, unsigned half);
/* The queue if its registers may be written now, or NULL. */
struct virtq *virtio_open_queue(struct virtio_device *d, uint32_t index);
void virtio_set_ready(struct virtio_device *d, uint32_t index, bool ready);

/* Whether requests may be served: DRIVER_OK, and neither broken nor given up. */
bool virtio_is_live(const struct virtio_device *d);

/*
 * The driver has kicked queue `index`: takes the lock and serves it. 1: call again soon (the
 * share of one turn is used up), so that a guest that never stops can't keep the loop from other
 * devices.
 */
int virtio_kick(struct virtio_device *d, unsigned index);

/* For devices; the lock is held. */
void virtio_signal_queue(struct virtio_device *d, unsigned index);
void virtio_needs_reset(struct virtio_device *d);
/* The configuration is another one now: tells the driver, if it listens. */
void virtio_config_changed(struct virtio_device *d);
