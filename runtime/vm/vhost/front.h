/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the front end of vhost-user (QEMU, docs/interop/vhost-user.rst): a virtio device whose
 * queues another process, the back end, serves. This process emulates the registers and the status,
 * and gives the back end guest memory, rings and eventfds. The data does not pass through this
 * process: kicks go from KVM to the back end, and interrupts from the back end to KVM.
 *
 *	vhost_user_init(&v, &memory, &options)   asks the back end for its features
 *	the transport sets dev.kicks and dev.call
 *	the queues start at DRIVER_OK and stop at a reset, in the thread of the vCPU that writes
 *	the status
 *
 * All messages of one start or stop together may take timeout_ms at most. A back end is lost for
 * good if it does not answer in time, breaks the protocol, or hangs up and no new connection is
 * possible. Then the device sets NEEDS_RESET, calls `lost` once, and never starts again.
 *
 * With `reconnect`, the front end waits for a back end that has hung up. The back end must keep the
 * requests under way in memory that outlives it (INFLIGHT_SHMFD), must come back with the same
 * features and the same configuration, and continues where it stopped. In the meantime the guest's
 * requests wait in their ring. The front end requests a new connection by writing a byte to the
 * socket `reconnect`. The process at its other end (engine/connector.h) answers with a byte and the
 * connected socket, or with a byte alone if no connection is possible.
 */
#pragma once
#include "vm/vhost/proto.h"
#include "vm/vhost/shadow.h"
#include "vm/virtio/device.h"

#define VHOST_USER_TIMEOUT_MS 10000

struct vhost_user_options {
	/*
	 * A connected Unix socket of type SOCK_STREAM. The caller closes it after the device is
	 * released.
	 */
	int sock;
	/* name of the back end, which error messages use; the device keeps the pointer */
	const char *peer;
	const char *name; /* name of the device, which error messages use */
	uint32_t id;
	unsigned queue_count;
	bool pairs; /* the back end counts queues in pairs, as for network devices */
	/*
	 * features of the device's type; the driver is offered those of them that the back end has
	 * too
	 */
	uint64_t features;
	/*
	 * features that the driver is offered even if the back end lacks them; the back end is told
	 * of the accepted ones that it has
	 */
	uint64_t own;
	/*
	 * configuration space, little-endian; the device keeps the pointer. NULL: the device reads
	 * the configuration, config_len bytes, from the back end
	 */
	const void *config;
	uint32_t config_len;
	/*
	 * if guest memory is private, the back end gets copies of the requests (vhost/shadow.h);
	 * without `shadow` that is an error
	 */
	bool shadow;
	bool shadow_whole; /* vhost_shadow.whole */
	/* time limit in milliseconds for one start or stop; 0: VHOST_USER_TIMEOUT_MS */
	unsigned timeout_ms;
	/*
	 * SOCK_SEQPACKET socket, owned by the caller, over which new connections come; 0: the back
	 * end cannot come back
	 */
	int reconnect;
	/*
	 * An earlier device had this connection, so SET_OWNER was sent. It is sent once on a
	 * connection: servers that use the Rust crate vhost fail at a second one.
	 */
	bool owned;
};

struct vhost_user {
	struct virtio_device dev;
	int sock;
	const char *peer;
	/* virtio features that the back end offered, with VHOST_USER_F_PROTOCOL_FEATURES */
	uint64_t offered;
	uint64_t protocol; /* protocol features that both ends use */
	/* virtio features that the driver is offered whether or not the back end has them */
	uint64_t own;
	bool pairs;
	unsigned timeout_ms;
	/* end of the time limit for the present start or stop: CLOCK_MONOTONIC in milliseconds */
	int64_t deadline;
	/* what the back end has in the place of guest memory; NULL: it has guest memory */
	struct vhost_shadow *shadow;
	bool started[VIRTIO_QUEUES_MAX];
	/*
	 * The queues continue at the indices in dev.queues when they start next, because they were
	 * stopped for a snapshot or come from one.
	 */
	bool loaded;
	int reconnect; /* socket over which new connections come; 0: none */
	/*
	 * gone: the back end has hung up and may come back; waiting: the device has requested a new
	 * connection
	 */
	bool gone, waiting;
	/*
	 * memory file in which the back end records the requests under way; -EBADF until the queues
	 * start
	 */
	int inflight;
	struct vhost_user_inflight inflight_at;
	bool failed;
	/* error message that says why the back end is lost */
	char why[256];
	/*
	 * the configuration space as the back end has sent it, if the back end has the
	 * configuration
	 */
	uint8_t config[VHOST_USER_CONFIG_MAX];
	/*
	 * The thread that polls event_fd calls this once, without the lock, when the back end is
	 * lost for good. NULL: nothing is called.
	 */
	void (*lost)(void *ctx, const char *why);
	void *lost_ctx;
};

/*
 * Makes the device and negotiates features with the back end. Returns -EPROTO if the back end
 * breaks the protocol or lacks a feature that is needed, -ETIMEDOUT if it does not answer.
 */
int vhost_user_init(struct vhost_user *v, const struct vm_memory *m,
	const struct vhost_user_options *options) must_check;
void vhost_user_release(struct vhost_user *v);

/*
 * Reads the configuration from the back end again, and tells the driver if it has changed. Takes
 * the device's lock.
 */
int vhost_user_reload(struct vhost_user *v) must_check;

/*
 * Checks that the back end at `sock` supports vhost-user and virtio 1, by asking for its features.
 * This changes nothing in the back end, so another front end can use the socket afterwards. The
 * parameters and errors are those of vhost_user_init().
 */
int vhost_user_probe(int sock, const char *peer, unsigned timeout_ms) must_check;
