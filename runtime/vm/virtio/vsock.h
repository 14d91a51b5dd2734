/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket device (virtio 1.2, 5.10): streams between ports of the guest and descriptors here.
 * Queue 0 goes to the guest, 1 comes from it, 2 is of events, of which there are none.
 *
 *	virtio_vsock_init(&v, &memory, &options)
 *	a transport serves v.dev: kicks, and v.dev.event_fd
 *	virtio_vsock_dial(&v, port, fd, use)   any time, any thread
 *	virtio_vsock_drain(&v, timeout)        the guest has ended: write what it said last
 *	virtio_vsock_release(&v)
 *
 * A stream's descriptor may be a stream socket, or a pipe, a terminal or a file: data goes between
 * guest memory and it by readv(2) and writev(2), without a copy and without another process (see
 * vsock_stream.h for how that never waits). What it does not take at once is kept, within the
 * credit the guest has: VSOCK_CREDIT for each of the first VSOCK_LARGE_MAX streams, VSOCK_CREDIT_
 * SMALL for the others, hence 11.5 MiB whatever the guest does. SIGPIPE must be ignored.
 *
 * A descriptor is closed when its stream has ended in both directions and all that the guest sent
 * is written; a reset of the device or of the stream by the guest does not cut that short.
 */
#pragma once
#include <linux/virtio_vsock.h>

#include "vm/virtio/device.h"
#include "vm/virtio/vsock_conn.h"

#define VSOCK_HOST_CID 2
#define VSOCK_CONNS_MAX 256 /* a request for more is refused */
#define VSOCK_LARGE_MAX 16
#define VSOCK_CREDIT (256U << 10)
#define VSOCK_CREDIT_SMALL (32U << 10)
#define VSOCK_RESETS_MAX 64
/* Ports of ours that virtio_vsock_dial() connects from. */
#define VSOCK_DIAL_PORT_FIRST 0x40000000U
#define VSOCK_DIAL_PORT_LAST 0x7fffffffU

/* The callbacks are called with the device's lock held: they must not call the device. */
struct virtio_vsock_options {
	uint64_t cid;     /* the guest's, 3 .. 2^32 - 2 */
	bool event_queue; /* false where another monitor has it */
	/*
	 * The guest connects to `port` of ours: the descriptor that carries the stream, which
	 * becomes the device's, or -errno to refuse. *ret_use is VSOCK_BOTH; leave only the
	 * direction that is wanted where the descriptor may be open for more, as a terminal that
	 * stands for standard output is: it would be read. In the thread that serves the device.
	 */
	int (*connect)(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use);
	/* The descriptor of a stream, also of a dialed one, was closed. In any thread. May be NULL.
	 */
	void (*closed)(void *ctx, uint32_t guest_port, uint32_t port);
	void *ctx;
};

struct vsock_reset {
	uint64_t cid;
	uint32_t port, guest_port;
	uint16_t type;
};

enum { VSOCK_QUEUE_RX, VSOCK_QUEUE_TX };

/* A receive buffer of which it is not known yet what it will hold. */
struct vsock_room {
	uint16_t head;
	uint32_t len; /* beside the header */
	unsigned header_parts;
	struct iovec header[VSOCK_HEADER];
};

struct virtio_vsock {
	struct virtio_device dev;
	struct virtio_vsock_config config;
	struct virtio_vsock_options options;
	int wake; /* an eventfd in dev.event_fd: there is more to do */
	uint32_t next_port;
	struct vsock_conn *conns[VSOCK_CONNS_MAX];
	unsigned count, large, turn;
	bool starved; /* the guest has no receive buffer */
	bool ending;  /* a reset is under way: no new connections, no answers */
	/* To packets that belong to no connection. While there is no place, no packet is taken. */
	struct vsock_reset resets[VSOCK_RESETS_MAX];
	unsigned reset_count;
	struct virtq_chain chain;
	struct vsock_room rooms[VSOCK_BATCH];
	struct iovec part[VIRTQ_CHAIN_MAX];
};

int virtio_vsock_init(struct virtio_vsock *v, const struct vm_memory *m,
	const struct virtio_vsock_options *o) must_check;
/* Beside virtio_release(). Closes all descriptors; what was not drained is lost. */
void virtio_vsock_release(struct virtio_vsock *v);

/*
 * Connects to a port of the guest; `use` is of enum vsock_use. fd becomes the device's, also on
 * failure; a guest that does not listen there closes it. Returns our port, > 0, which closed() is
 * told; -ENOTCONN: the guest has no driver (yet); -EBUSY: VSOCK_CONNS_MAX connections are open.
 */
int virtio_vsock_dial(struct virtio_vsock *v, uint32_t guest_port, int fd, unsigned use) must_check;

/*
 * Writes what the guest has sent so far, waiting for slow readers, timeout_ms at most (-1: for
 * ever). For when the guest has ended, in the thread that served the device. -ETIMEDOUT.
 */
int virtio_vsock_drain(struct virtio_vsock *v, int timeout_ms) must_check;

/* --- between vsock.c and vsock_rx.c; the lock is held --- */

/* What follows from any call of c's: the owner is told of its end, and it is freed. */
void vsock_settle(struct virtio_vsock *v, struct vsock_conn *c);

/*
 * Says and delivers to the guest what there is. 0: all of it, or the guest has no more buffers. 1:
 * this turn's share is used up. < 0: the driver broke the queue.
 */
int vsock_fill(struct virtio_vsock *v);
