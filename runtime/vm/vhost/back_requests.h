/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Defines the state of a vhost-user back end and the functions that change it by request. back.c
 * receives the requests. Each caller must hold the device's lock.
 */
#pragma once
#include "vm/vhost/back.h"
#include "vm/vhost/back_messages.h"
#include "vm/virtio/device.h"

struct vhost_queue {
	/*
	 * addresses of the queue's rings in the address space of the monitor, which has sent them
	 */
	uint64_t desc, avail, used;
	/* number of entries of the queue; 0: the monitor has not sent the number yet */
	uint16_t size;
	/* index of the next request to serve; valid while the queue does not run */
	uint16_t base;
	bool has_addr, started, enabled;
	/* `base` stays as it is until the queue starts (VHOST_USER_KEEP_VRING_BASE) */
	bool keeps_base;
	/* the back end serves this queue, which the front end never starts (vhost_adopt()) */
	bool adopted;
	struct vhost_rings rings; /* guest addresses of the adopted queue */
	/* the queue has more requests, so it has to be served once more without a kick */
	bool more;
	int kick, call;
};

struct vhost_threads;

struct vhost_backend {
	struct virtio_device *device;
	/* the threads that serve the queues; NULL: the thread that handles messages serves them */
	struct vhost_threads *threads;
	int sock, stop_fd;
	int carrier; /* socket of vhost_serve_carried(), or -EBADF */
	/* features that the front end has accepted, including VHOST_USER_F_PROTOCOL_FEATURES */
	uint64_t features;
	uint64_t protocol;
	struct vm_memory memory;
	int requests; /* socket for requests to the front end, or -EBADF */
	bool event_more;
	/*
	 * state_fd: the descriptor through which the device's state goes after SET_DEVICE_STATE_FD
	 * was answered, or -EBADF; state_loads: the device loads its state from there, else it
	 * saves it; state_failed: the last transfer has failed
	 */
	int state_fd;
	bool state_loads, state_failed;
	/* state of back_watch.c */
	struct {
		/* how long the rings are watched, and when the last watch began, in ns */
		uint64_t ns, idle_from;
		/* how many watches in a row have found a request */
		unsigned rounds;
		bool served;    /* requests were served since the last watch */
		bool unsettled; /* lazy queues may have requests to serve or to signal */
	} watch;
	struct vhost_queue queues[VIRTIO_QUEUES_MAX];
};

/*
 * Implements virtio_device.signal: raises the interrupt of the queue. `transport` is the struct
 * vhost_backend.
 */
void vhost_signal(void *transport, int queue);

/*
 * Handles a request to which vhost-user defines a reply with data, such as GET_FEATURES. Returns 0
 * if *m now holds that reply, with the length of its payload in m->h.size. Returns 1 without doing
 * anything if *m is a request of another kind; the caller then calls vhost_apply_request().
 */
int vhost_answer_request(struct vhost_backend *b, struct vhost_message *m) must_check;

/*
 * Handles a request to which vhost-user defines no reply but at most a REPLY_ACK. Takes the
 * descriptors that the back end keeps out of *m, so that vhost_message_release() closes only the
 * others.
 */
int vhost_apply_request(struct vhost_backend *b, struct vhost_message *m) must_check;

/*
 * Stops all queues and resets the device. The mapped guest memory and the interrupt descriptors
 * stay.
 */
void vhost_reset(struct vhost_backend *b);

/* These functions of back_keep.c are for a device that goes on at a new front end. */
/*
 * Says whether a queue is to continue at its place. QEMU 10 resets a new device before it starts
 * the queues for the first time, but the guest has not reset this one.
 */
bool vhost_keeps_place(const struct vhost_backend *b);
/*
 * Finds the rings of the adopted queue i in guest memory. The queue continues behind the last
 * buffer that was given back, because the device gives each of its buffers back at once.
 */
int vhost_place_adopted(struct vhost_backend *b, unsigned i) must_check;

/*
 * These functions of back_state.c handle SET_DEVICE_STATE_FD. vhost_state_begin() checks the
 * request and makes the answer. vhost_state_move() is called after the answer was sent, and moves
 * the state. It may take long, because the front end reads or writes at the other end of the
 * descriptor.
 */
int vhost_state_begin(struct vhost_backend *b, struct vhost_message *m) must_check;
void vhost_state_move(struct vhost_backend *b);

/*
 * These functions of back_config.c handle GET_CONFIG, SET_CONFIG and SET_BACKEND_REQ_FD, and tell
 * the front end that the configuration has changed.
 */
int vhost_get_config(const struct vhost_backend *b, struct vhost_message *m) must_check;
int vhost_set_config(struct vhost_backend *b, const struct vhost_message *m) must_check;
int vhost_set_request_socket(struct vhost_backend *b, struct vhost_message *m) must_check;
void vhost_signal_config(const struct vhost_backend *b);
