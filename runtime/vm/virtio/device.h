/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Defines a virtio device in the form that both transports and devices use: queues, features and
 * the status register (virtio 1.2, 2.1 and 3.1). Devices do not know their transport, and
 * transports do not know what a device does.
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

#include "vm/snapshot/format.h"
#include "vm/virtio/queue.h"

/* a virtio-fs device may have a high-priority queue and 16 request queues */
#define VIRTIO_QUEUES_MAX 17

#define VIRTIO_SIGNAL_CONFIG (-1)

struct virtio_device;

struct virtio_ops {
	/*
	 * Serves at most `budget` requests of queue `index`. The caller holds the lock. Returns 0
	 * if no request is left, or 1 if there may be more, so that the caller has to call again
	 * soon. Returns -errno with a message if the driver broke the rules.
	 */
	int (*serve)(struct virtio_device *d, unsigned index, unsigned budget);
	/*
	 * Drops the guest's requests that the device has taken and not yet answered. NULL: the
	 * device holds no request between calls of serve().
	 */
	void (*reset)(struct virtio_device *d);
	/*
	 * The event loop calls this when event_fd is readable, because something on the host is
	 * ready for the device. The function takes the lock itself. It returns 1 if the loop has to
	 * call it again soon. NULL: event_fd is -EBADF.
	 */
	int (*event)(struct virtio_device *d);
	/*
	 * The transport calls this when the driver has written to the configuration. The caller
	 * holds the lock. NULL: the configuration is read-only. Like start() and reset() this
	 * function runs in a vCPU's thread, which may use few system calls (jail/calls.c) and
	 * should not wait.
	 */
	void (*configure)(struct virtio_device *d, uint32_t offset, const void *data, unsigned len);
	/*
	 * virtio_set_status() calls this when the driver has set DRIVER_OK, and virtio_load() calls
	 * it if the snapshot's driver had set it. The caller holds the lock. A negative result
	 * makes the device need a reset. NULL: nothing to do.
	 */
	int (*start)(struct virtio_device *d);
	/*
	 * The transport calls this before queue `index` stops, and before a vhost-user monitor
	 * changes guest memory; virtio_save() calls it for each queue. The caller holds the lock.
	 * The device must give back all requests that it has taken, and forget its pointers into
	 * guest memory. Its other state stays, because the queue may continue. NULL: the device
	 * holds no request and no such pointer between calls.
	 */
	void (*quiesce)(struct virtio_device *d, unsigned index);
	/*
	 * Writes what the device itself stores, besides the members of struct virtio_device, to the
	 * section of the snapshot that was begun last. The caller holds the lock and has called
	 * quiesce() for all queues. NULL: the device stores nothing.
	 */
	int (*save)(struct virtio_device *d, struct snapshot_writer *w);
	/*
	 * Reads what save() has written, into a device that is as its init function has left it.
	 * The bytes may be hostile. virtio_load() calls this before start(), when the queues are
	 * ready.
	 */
	int (*load)(struct virtio_device *d, struct snapshot_part *p);
	/*
	 * virtio_go_on() calls this when the machine goes on after save(). The caller holds the
	 * lock. NULL: nothing to do.
	 */
	void (*go_on)(struct virtio_device *d);
};

struct virtio_device {
	/*
	 * The device's init function sets the members from here to the mutex `lock`, if their
	 * comment does not say otherwise, and does not change them after that.
	 */
	const struct virtio_ops *ops;
	const char *name;
	uint32_t id;       /* device type (virtio 1.2, chapter 5) */
	uint64_t features; /* features that the device offers besides VIRTIO_COMMON_FEATURES */
	/*
	 * features that are not offered although `features` or VIRTIO_COMMON_FEATURES contains them
	 */
	uint64_t withheld;
	/* configuration space, little-endian, in the layout that the driver reads */
	const void *config;
	uint32_t config_len;
	bool changes_config; /* the device itself may change its configuration while it runs */
	unsigned queue_count;
	/*
	 * How many queues, the first ones, another process (vhost/front.h) or the kernel
	 * (virtio/net_vhost.c) serves. It gets the kicks and raises the interrupts itself, without
	 * the transport.
	 */
	unsigned remote_queues;
	const struct vm_memory *memory;
	/*
	 * Descriptor that the thread which serves the device polls besides the kicks; -EBADF: none.
	 * It is an epoll or event descriptor of the device's own, so that transports need not know
	 * what it stands for. virtio_init() sets it to -EBADF, so the device sets it after that.
	 */
	int event_fd;
	/*
	 * Tells the driver about used buffers in `queue`, or about a changed configuration
	 * (VIRTIO_SIGNAL_CONFIG). The transport sets this.
	 */
	void (*signal)(void *transport, int queue);
	void *transport;
	/*
	 * An eventfd for each queue, which the guest's kicks signal. The transport sets this. NULL:
	 * the transport has no such eventfds.
	 */
	const int *kicks;
	int call; /* eventfd of the interrupt, for a remote device; the transport sets it */
	/*
	 * how long, in ns, a vhost-user back end may watch the rings for the next request before it
	 * waits for a kick (vhost/back_watch.h); 0: not at all
	 */
	uint32_t watch_ns;
	/*
	 * queues for whose requests the guest does not wait, bit n for queue n. A vhost-user back
	 * end serves and signals them late. The device does not signal these queues itself.
	 */
	uint32_t lazy_queues;

	pthread_mutex_t lock; /* protects the members below */
	uint32_t status;
	uint32_t generation; /* number of changes of the configuration */
	uint64_t driver_features;
	struct virtq queues[VIRTIO_QUEUES_MAX];
	char broken[256]; /* text that says why DEVICE_NEEDS_RESET was last set */
	unsigned long resets_needed;
};

#define VIRTIO_COMMON_FEATURES \
	(1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_RING_F_EVENT_IDX | \
		1ULL << VIRTIO_RING_F_INDIRECT_DESC)

/*
 * Completes the initialisation of a device whose init has set the constant members. `m` is the
 * guest's memory.
 */
void virtio_init(struct virtio_device *d, const struct vm_memory *m);
void virtio_release(struct virtio_device *d);

/*
 * Handles the driver's write to the status register. Only transports call this, with the lock held.
 * Ignores a change that the device's state does not allow (virtio 1.2, 2.1).
 */
void virtio_set_status(struct virtio_device *d, uint32_t status);
void virtio_set_features(struct virtio_device *d, unsigned half, uint32_t bits);
/*
 * Makes the device ready with the features that the driver has accepted, for transports without a
 * status register. If the device does not offer these features, returns -EPROTO with a message and
 * changes nothing.
 */
int virtio_accept(struct virtio_device *d, uint64_t features) must_check;
uint32_t virtio_features(const struct virtio_device *d, unsigned half);
/* Returns all features that the device offers. */
uint64_t virtio_offered(const struct virtio_device *d);
/* Sets which of the accepted features the queue has to obey: EVENT_IDX and INDIRECT_DESC. */
void virtio_apply_features(const struct virtio_device *d, struct virtq *q);
/* Returns the queue if the driver may set its size and addresses now, else NULL. */
struct virtq *virtio_open_queue(struct virtio_device *d, uint32_t index);
void virtio_set_ready(struct virtio_device *d, uint32_t index, bool ready);

/*
 * Returns whether requests may be served: DRIVER_OK is set, and neither DEVICE_NEEDS_RESET nor
 * FAILED.
 */
bool virtio_is_live(const struct virtio_device *d);

/*
 * Handles a kick of queue `index`: takes the lock and serves a limited number of requests. Returns
 * 1 if the limit was reached, so that it has to be called again soon. There is a limit because a
 * guest that never stops would otherwise keep the event loop from other devices.
 */
int virtio_kick(struct virtio_device *d, unsigned index);

/*
 * Serves at most `budget` requests of queue `index`, for a transport that gives each queue a thread
 * of its own. The caller holds the locks that keep the queue and the device's status from changing.
 * Returns 1 if there may be more requests, 0 if not, or -errno with a message if the driver broke
 * the rules; then the transport must stop the device.
 */
int virtio_serve_queue(struct virtio_device *d, unsigned index, unsigned budget) must_check;

/*
 * Raises the queue's interrupt if the driver wants one. Only devices call this, with the lock held.
 */
void virtio_signal_queue(struct virtio_device *d, unsigned index);
void virtio_needs_reset(struct virtio_device *d);
/* Tells the driver that the configuration has changed, if the driver is ready. */
void virtio_config_changed(struct virtio_device *d);

/* --- device_state.c: snapshots --- */

/*
 * Writes the device's state to the section of the snapshot that was begun last. The caller has made
 * sure that the driver does not run and that no other thread serves the device. Requests that the
 * device has taken count as not taken, so the caller must kick all queues if the machine goes on.
 * Returns -ENOTSUP, with a message, if the device has state that cannot be saved.
 */
int virtio_save(struct virtio_device *d, struct snapshot_writer *w) must_check;
/* Lets a device go on after virtio_save(), whether or not that function has failed. */
void virtio_go_on(struct virtio_device *d);
/*
 * Loads the state that virtio_save() has written into a device that is as its init function has
 * left it. Returns -ENOTSUP with a message if the snapshot is of another device, -EBADMSG if the
 * state is not possible. The caller must kick all queues afterwards.
 */
int virtio_load(struct virtio_device *d, struct snapshot_part *p) must_check;
