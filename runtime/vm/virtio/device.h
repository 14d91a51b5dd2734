/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device in the form that both transports and devices use: queues, features and the status
 * register (virtio 1.2, 2.1 and 3.1). Devices do not know their transport, and transports do not
 * know what a device does.
 *
 * Threads: vCPU threads write registers; the event loop serves queues and host descriptors. Each of
 * them holds `lock`, so a device never sees a reset in the middle of a request.
 *
 * To write a device, begin like rng.c: a struct whose first member is a struct virtio_device, an
 * init that sets the constant part and calls virtio_init(), and a struct virtio_ops whose serve()
 * takes requests with virtq_next() and gives them back with virtq_push(). vm/machine.h says how the
 * device gets into the machine.
 */
#pragma once
#include <linux/virtio_config.h>
#include <pthread.h>

#include "vm/virtio/queue.h"

#define VIRTIO_QUEUES_MAX 17 /* virtio-fs may have a high-priority queue and 16 request queues */

#define VIRTIO_SIGNAL_CONFIG (-1)

struct virtio_device;

struct virtio_ops {
	/*
	 * Serves at most `budget` requests of queue `index`; the caller holds the lock. 0: no
	 * request is left. 1: there may be more, so it has to be called again soon. < 0: the driver
	 * broke the rules, and the message says how.
	 */
	int (*serve)(struct virtio_device *d, unsigned index, unsigned budget);
	/* Drops the requests that are under way. NULL: the device never keeps one. */
	void (*reset)(struct virtio_device *d);
	/*
	 * event_fd is readable, because something on the host is ready for the device. Takes the
	 * lock itself. Returns 1 if it has to be called again soon. NULL if event_fd is -EBADF.
	 */
	int (*event)(struct virtio_device *d);
	/*
	 * The driver wrote to the configuration; the caller holds the lock. NULL: the configuration
	 * is read-only. Like start and reset it runs in the vCPU's thread, which may use few system
	 * calls (jail/calls.c) and should not wait.
	 */
	void (*configure)(struct virtio_device *d, uint32_t offset, const void *data, unsigned len);
	/*
	 * The driver set DRIVER_OK; the caller holds the lock. < 0: the device needs a reset. NULL:
	 * nothing to do.
	 */
	int (*start)(struct virtio_device *d);
	/*
	 * Queue `index` is about to stop, or guest memory is about to change (vhost-user); the
	 * caller holds the lock. The device pushes the requests that it popped, and keeps no
	 * pointer into guest memory. It keeps its other state, because the queue may continue.
	 * NULL: the device keeps nothing between calls.
	 */
	void (*quiesce)(struct virtio_device *d, unsigned index);
};

struct virtio_device {
	/* Set by the device's init; constant from then on. */
	const struct virtio_ops *ops;
	const char *name;
	uint32_t id;       /* device type (virtio 1.2, 5) */
	uint64_t features; /* offered in addition to VIRTIO_COMMON_FEATURES */
	/* features that are not offered although they are in one of these sets */
	uint64_t withheld;
	const void *config; /* little-endian, in the layout that the driver reads */
	uint32_t config_len;
	unsigned queue_count;
	/*
	 * Another process serves the queues (vhost/front.h). It gets the kicks and raises the
	 * interrupts for used buffers; neither goes through the transport.
	 */
	bool remote;
	const struct vm_memory *memory;
	/*
	 * Descriptor that the thread which serves the device polls besides the kicks: an epoll or
	 * event descriptor of the device's own, so that transports need not know what it stands
	 * for. The device sets it after virtio_init(), which makes it -EBADF: nothing to poll.
	 */
	int event_fd;
	/*
	 * Set by the transport. Tells the driver about used buffers in `queue`, or about a change
	 * of the configuration (VIRTIO_SIGNAL_CONFIG).
	 */
	void (*signal)(void *transport, int queue);
	void *transport;
	/*
	 * Set by the transport: an eventfd for the kicks of each queue. NULL: kicks are served at
	 * once.
	 */
	const int *kicks;
	int call; /* set by the transport: eventfd of the interrupt, for a remote device */

	pthread_mutex_t lock; /* protects the following members */
	uint32_t status;
	uint32_t generation; /* of the configuration */
	uint64_t driver_features;
	struct virtq queues[VIRTIO_QUEUES_MAX];
	char broken[256]; /* text: why DEVICE_NEEDS_RESET is set; kept until it is set again */
	unsigned long resets_needed;
};

#define VIRTIO_COMMON_FEATURES \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX | \
		1ULL << VIRTIO_RING_F_INDIRECT_DESC)

/* Completes a device whose constant part is set. */
void virtio_init(struct virtio_device *d, const struct vm_memory *m);
void virtio_release(struct virtio_device *d);

/*
 * For transports; the caller holds the lock. What the state of the device does not allow is ignored
 * (virtio 1.2, 2.1).
 */
void virtio_set_status(struct virtio_device *d, uint32_t status);
void virtio_set_features(struct virtio_device *d, unsigned half, uint32_t bits);
/*
 * For transports without a status register: the driver has accepted these features and is ready.
 * -EPROTO, with a message, if the device does not offer them; nothing has changed then.
 */
int virtio_accept(struct virtio_device *d, uint64_t features) must_check;
uint32_t virtio_features(const struct virtio_device *d, unsigned half);
/* Returns the queue if its registers may be written now, or NULL. */
struct virtq *virtio_open_queue(struct virtio_device *d, uint32_t index);
void virtio_set_ready(struct virtio_device *d, uint32_t index, bool ready);

/* Whether requests may be served: DRIVER_OK is set, and neither DEVICE_NEEDS_RESET nor FAILED. */
bool virtio_is_live(const struct virtio_device *d);

/*
 * The driver has kicked queue `index`: takes the lock and serves the queue. Returns 1 if it has to
 * be called again soon, because the queue's share is used up. Without shares a guest that never
 * stops would keep the event loop from other devices.
 */
int virtio_kick(struct virtio_device *d, unsigned index);

/* For devices; the caller holds the lock. */
void virtio_signal_queue(struct virtio_device *d, unsigned index);
void virtio_needs_reset(struct virtio_device *d);
/* Tells a live driver that the configuration has changed. */
void virtio_config_changed(struct virtio_device *d);
