/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front end of vhost-user (QEMU, docs/interop/vhost-user.rst): a virtio device whose queues
 * another process serves. This side keeps registers and status, hands over guest memory, rings and
 * eventfds, and is out of the way of the data: a kick goes from KVM to the back end, an interrupt
 * from the back end to KVM.
 *
 *	vhost_user_init(&v, &memory, &options)   asks the back end what it can
 *	the transport sets dev.kicks and dev.call
 *	queues start at DRIVER_OK and stop at reset, in the thread of the vCPU that writes the
 *status
 *
 * Every reply is awaited for timeout_ms at most, for all messages of one start or stop together. A
 * back end that keeps silent or breaks the protocol is lost for good, and so is one that hangs up
 * unless it can be connected to again: the device needs a reset, `lost` is called once, and no
 *later start succeeds.
 *
 * With `reconnect`, one that hangs up is awaited. It must keep the requests under way in memory
 *that outlives it (INFLIGHT_SHMFD), must come back with the features and the configuration that it
 *had, and goes on where it stopped; meanwhile the guest's requests wait in their ring. What is at
 *the other end of that socket (engine/connector.h) gets a byte for each new connection wanted, and
 * answers by a byte and the connected socket, or by a byte alone: there will be none.
 */
#pragma once
#include "vm/vhost/proto.h"
#include "vm/virtio/device.h"

#define VHOST_USER_TIMEOUT_MS 10000

struct vhost_user_options {
	int sock; /* connected SOCK_STREAM Unix socket; the caller closes it after the release */
	const char *peer; /* the back end, for messages; kept */
	const char *name; /* the device */
	uint32_t id;
	unsigned queue_count;
	bool pairs;        /* the back end counts queues in pairs, as those of network devices do */
	uint64_t features; /* of the device's type, passed on where the back end offers them */
	uint64_t own;      /* offered in any case, and told to the back end only if it has them */
	const void *config; /* kept; NULL: config_len bytes are the back end's to tell */
	uint32_t config_len;
	unsigned timeout_ms; /* 0: VHOST_USER_TIMEOUT_MS */
	int reconnect; /* SOCK_SEQPACKET, the caller's as sock, which gets the new connection; 0:
			  none */
};

struct vhost_user {
	struct virtio_device dev;
	int sock;
	const char *peer;
	uint64_t offered;  /* virtio features of the back end, and F_PROTOCOL_FEATURES */
	uint64_t protocol; /* protocol features in use */
	uint64_t own;      /* virtio features that the back end need not know */
	bool pairs;
	unsigned timeout_ms;
	int64_t deadline; /* of what is under way, CLOCK_MONOTONIC in ms */
	bool started[VIRTIO_QUEUES_MAX];
	int reconnect;      /* or 0 */
	bool gone, waiting; /* it has hung up; the new connection is asked for */
	int inflight;       /* the back end's, -EBADF until queues start */
	struct vhost_user_inflight inflight_at;
	bool failed;
	char why[256];                         /* once it has failed */
	uint8_t config[VHOST_USER_CONFIG_MAX]; /* where the back end tells it */
	/* Called once, by the thread that polls event_fd and without the lock. May be NULL. */
	void (*lost)(void *ctx, const char *why);
	void *lost_ctx;
};

/* -EPROTO: the back end does not keep to the protocol, or lacks what is needed; -ETIMEDOUT. */
int vhost_user_init(struct vhost_user *v, const struct vm_memory *m,
	const struct vhost_user_options *options) must_check;
void vhost_user_release(struct vhost_user *v);

/*
 * Whether a back end speaks vhost-user and virtio 1, for a socket that another front end will have:
 * it is asked for its features, which leaves it as it was. peer: as above; errors too.
 */
int vhost_user_probe(int sock, const char *peer, unsigned timeout_ms) must_check;
