/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The front end of vhost-user (QEMU, docs/interop/vhost-user.rst): a virtio device whose queues
 * another process, the back end, serves. This process keeps the registers and the status, and gives
 * the back end guest memory, rings and eventfds. It has no part in the data: a kick goes from KVM
 * to the back end, and an interrupt from the back end to KVM.
 *
 *	vhost_user_init(&v, &memory, &options)   asks the back end for its features
 *	the transport sets dev.kicks and dev.call
 *	the queues start at DRIVER_OK and stop at a reset, in the thread of the vCPU that writes
 *	the status
 *
 * All messages of one start or stop together may take timeout_ms at most. A back end that does not
 * answer in time or breaks the protocol is lost for good; so is one that hangs up, unless a new
 * connection is possible. Then the device needs a reset, `lost` is called once, and no later start
 * succeeds.
 *
 * With `reconnect`, the front end waits for a back end that has hung up. The back end must keep the
 * requests under way in memory that outlives it (INFLIGHT_SHMFD), must come back with the same
 * features and the same configuration, and continues where it stopped. In the meantime the guest's
 * requests wait in their ring. The process at the other end of the socket `reconnect`
 * (engine/connector.h) gets a byte for each new connection that is wanted. It answers with a byte
 * and the connected socket, or with a byte alone if there will be none.
 */
#pragma once
#include "vm/vhost/proto.h"
#include "vm/virtio/device.h"

#define VHOST_USER_TIMEOUT_MS 10000

struct vhost_user_options {
	/* A connected Unix socket, SOCK_STREAM; the caller closes it after the release. */
	int sock;
	const char *peer; /* name of the back end, for messages; the pointer is kept */
	const char *name; /* name of the device */
	uint32_t id;
	unsigned queue_count;
	bool pairs; /* the back end counts pairs of queues, as those of network devices do */
	/*
	 * features of the device's type; those that the back end has too are offered to the driver
	 */
	uint64_t features;
	/* offered in any case; the back end is told of those that it has too */
	uint64_t own;
	/* the pointer is kept; NULL: the back end has the configuration, of config_len bytes */
	const void *config;
	uint32_t config_len;
	unsigned timeout_ms; /* 0: VHOST_USER_TIMEOUT_MS */
	/* SOCK_SEQPACKET socket of the caller's, over which new connections come; 0: none */
	int reconnect;
};

struct vhost_user {
	struct virtio_device dev;
	int sock;
	const char *peer;
	uint64_t offered;  /* the back end's virtio features, with F_PROTOCOL_FEATURES */
	uint64_t protocol; /* protocol features in use */
	uint64_t own;      /* virtio features that the back end does not need to know */
	bool pairs;
	unsigned timeout_ms;
	int64_t deadline; /* CLOCK_MONOTONIC in ms: the end of the present start or stop */
	bool started[VIRTIO_QUEUES_MAX];
	int reconnect; /* as in the options */
	/* gone: the back end has hung up; waiting: a new connection was requested */
	bool gone, waiting;
	/* the back end's memory for requests under way; -EBADF until the queues start */
	int inflight;
	struct vhost_user_inflight inflight_at;
	bool failed;
	char why[256];                         /* why it has failed */
	uint8_t config[VHOST_USER_CONFIG_MAX]; /* if the back end has the configuration */
	/*
	 * Called once, without the lock, by the thread that polls event_fd. NULL: nothing is
	 * called.
	 */
	void (*lost)(void *ctx, const char *why);
	void *lost_ctx;
};

/*
 * -EPROTO: the back end breaks the protocol, or lacks a feature that is needed; -ETIMEDOUT: it does
 * not answer.
 */
int vhost_user_init(struct vhost_user *v, const struct vm_memory *m,
	const struct vhost_user_options *options) must_check;
void vhost_user_release(struct vhost_user *v);

/*
 * Checks that a back end knows vhost-user and virtio 1, on a socket that another front end will
 * use: it asks for the features, which changes nothing in the back end. peer, timeout_ms and errors
 * are those of vhost_user_init().
 */
int vhost_user_probe(int sock, const char *peer, unsigned timeout_ms) must_check;
