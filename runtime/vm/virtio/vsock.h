/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket device (virtio 1.2, 5.10): streams between ports of the guest and descriptors of the
 * host. Queue 0 goes to the guest, queue 1 comes from it, queue 2 is for events, of which there are
 * none.
 *
 *	virtio_vsock_init(&v, &memory, &options)
 *	a transport serves v.dev: kicks, and v.dev.event_fd
 *	virtio_vsock_dial(&v, port, fd, use)   at any time, from any thread
 *	virtio_vsock_drain(&v, timeout)        the guest has ended: writes its last data
 *	virtio_vsock_release(&v)
 *
 * A stream's descriptor may be a stream socket, a pipe, a terminal or a file. readv(2) and
 * writev(2) move data between guest memory and the descriptor, without a copy and without another
 * process; vsock_stream.h says how they never wait. Data that the descriptor does not take at once
 * is kept, up to the credit that the guest has: VSOCK_CREDIT for each of the first VSOCK_LARGE_MAX
 * streams, and VSOCK_CREDIT_SMALL for the others. So a guest can cost 11.5 MiB at most. SIGPIPE
 * must be ignored.
 *
 * A descriptor is closed when its stream has ended in both directions and all data from the guest
 * is written, even if the guest resets the device or the stream before that.
 */
#pragma once
#include <linux/virtio_vsock.h>

#include "vm/virtio/device.h"
#include "vm/virtio/vsock_conn.h"

#define VSOCK_HOST_CID 2
#define VSOCK_CONNS_MAX 256 /* further requests are refused */
#define VSOCK_LARGE_MAX 16
#define VSOCK_CREDIT (256U << 10)
#define VSOCK_CREDIT_SMALL (32U << 10)
#define VSOCK_RESETS_MAX 64
/* The host's ports from which virtio_vsock_dial() connects. */
#define VSOCK_DIAL_PORT_FIRST 0x40000000U
#define VSOCK_DIAL_PORT_LAST 0x7fffffffU

/* The callbacks run with the device's lock held, so they must not call the device. */
struct virtio_vsock_options {
	uint64_t cid;     /* the guest's, 3 .. 2^32 - 2 */
	bool event_queue; /* false if another monitor serves the event queue */
	/*
	 * The guest connects to the host's `port`. Returns the descriptor that carries the stream,
	 * which becomes the device's, or -errno to refuse. *ret_use is VSOCK_BOTH at first. If the
	 * descriptor is open for more directions than are wanted, as a terminal that is used as
	 * standard output, the callback leaves only the wanted one, because the device would read
	 * it otherwise. Runs in the thread that serves the device.
	 */
	int (*connect)(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use);
	/*
	 * The descriptor of a stream was closed, also of a dialed one. Runs in any thread. NULL:
	 * nothing is called.
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

/* A receive buffer that was taken from the queue and is not filled yet. */
struct vsock_room {
	uint16_t head;
	uint32_t len; /* room for data, without the header */
	unsigned header_parts;
	struct iovec header[VSOCK_HEADER];
};

struct virtio_vsock {
	struct virtio_device dev;
	struct virtio_vsock_config config;
	struct virtio_vsock_options options;
	int wake; /* eventfd in dev.event_fd that says there is more to do */
	uint32_t next_port;
	struct vsock_conn *conns[VSOCK_CONNS_MAX];
	unsigned count, large, turn;
	bool starved; /* the guest has no receive buffer */
	bool ending;  /* a reset is under way: no new connections and no answers */
	/*
	 * Answers to packets that belong to no connection. While there is no room here, no packet
	 * is taken.
	 */
	struct vsock_reset resets[VSOCK_RESETS_MAX];
	unsigned reset_count;
	struct virtq_chain chain;
	struct vsock_room rooms[VSOCK_BATCH];
	struct iovec part[VIRTQ_CHAIN_MAX];
};

int virtio_vsock_init(struct virtio_vsock *v, const struct vm_memory *m,
	const struct virtio_vsock_options *o) must_check;
/*
 * Closes all descriptors; data that was not drained is lost. virtio_release() is called in
 * addition.
 */
void virtio_vsock_release(struct virtio_vsock *v);

/*
 * Connects to a port of the guest; `use` is of enum vsock_use. fd becomes the device's, also on
 * failure. A guest that does not listen at the port makes the device close it. Returns the host's
 * port, > 0, which closed() gets. -ENOTCONN: the guest's driver is not ready; -EBUSY:
 * VSOCK_CONNS_MAX connections are open.
 *
 * For restored snapshots (issue 18), because a restore ends the connections that the guest's agent
 * made. Until these come only tests call it.
 */
int virtio_vsock_dial(struct virtio_vsock *v, uint32_t guest_port, int fd, unsigned use) must_check;

/*
 * Tells how far the guest's data for this port of the host has come: how many bytes, modulo 2^32,
 * were written to the descriptor, and how many are kept because it did not take them yet. May be
 * called from any thread. -ENOENT, without a message: there is no such stream any more.
 */
int virtio_vsock_progress(struct virtio_vsock *v, uint32_t port, uint32_t *ret_written,
	uint32_t *ret_kept) must_check;

/*
 * Writes the data that the guest has sent, and waits for slow readers, at most timeout_ms (-1: no
 * limit). Called when the guest has ended, by the thread that served the device. -ETIMEDOUT.
 */
int virtio_vsock_drain(struct virtio_vsock *v, int timeout_ms) must_check;

/* --- vsock_table.c: the table of connections; the caller holds the lock --- */

struct vsock_conn *vsock_find_conn(
	const struct virtio_vsock *v, uint32_t guest_port, uint32_t port);
/* Makes a connection for the descriptor, which becomes its own, also on failure. */
int vsock_add_conn(struct virtio_vsock *v, int fd, unsigned use, struct vsock_conn **ret)
	must_check;
/*
 * Has to be called after each call that changes the connection: tells the owner if its descriptor
 * was closed, and frees the connection if nothing is left of it.
 */
void vsock_settle_conn(struct virtio_vsock *v, struct vsock_conn *c);

/* --- vsock_rx.c; the caller holds the lock --- */

/*
 * Sends the guest the packets and the data that wait. 0: nothing is left, or the guest has no more
 * buffers. 1: the share of this turn is used up. < 0: the driver broke the queue.
 */
int vsock_fill_rx(struct virtio_vsock *v);
