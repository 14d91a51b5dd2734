/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the socket device (virtio 1.2, 5.10), which connects ports of the guest with
 * descriptors of the host. Queue 0 carries packets to the guest, queue 1 packets from it. Queue 2
 * is for events: after a restore from a snapshot the device tells the guest that all connections
 * have ended.
 *
 *	virtio_vsock_init(&v, &memory, &options)
 *	a transport serves v.dev: kicks, and v.dev.event_fd
 *	virtio_vsock_dial(&v, port, fd, use)   at any time, from any thread
 *	virtio_vsock_drain(&v, timeout)        after the guest has ended: writes its last data
 *	virtio_vsock_release(&v)
 *
 * A stream's descriptor may be a stream socket, a pipe, a terminal or a file. readv(2) and
 * writev(2) move data between guest memory and the descriptor, without a copy and without another
 * process; vsock_stream.h explains why these calls never wait. The device keeps data that the
 * descriptor does not take at once, up to the credit of the guest: VSOCK_CREDIT bytes for each of
 * the first VSOCK_LARGE_MAX streams, and VSOCK_CREDIT_SMALL bytes for the others. So a guest can
 * make the device allocate 11.5 MiB at most. SIGPIPE must be ignored.
 *
 * A descriptor is closed when its stream has ended in both directions and all data from the guest
 * is written, even if the guest resets the device or the stream before that.
 */
#pragma once
#include <linux/virtio_vsock.h>

#include "vm/virtio/device.h"
#include "vm/virtio/vsock_conn.h"

#define VSOCK_HOST_CID 2
#define VSOCK_CONNS_MAX 256 /* the device refuses connections beyond this number */
#define VSOCK_LARGE_MAX 16
#define VSOCK_CREDIT (256U << 10)
#define VSOCK_CREDIT_SMALL (32U << 10)
#define VSOCK_RESETS_MAX 64
/* Range of the host's port numbers from which virtio_vsock_dial() connects. */
#define VSOCK_DIAL_PORT_FIRST 0x40000000U
#define VSOCK_DIAL_PORT_LAST 0x7fffffffU

/*
 * Settings of the device. The callbacks run with the device's lock held, so they must not call the
 * device.
 */
struct virtio_vsock_options {
	uint64_t cid; /* the guest's context id (CID), from 3 to 2^32 - 2 */
	/*
	 * the device has an event queue; false if the vhost-user front end (QEMU) serves that queue
	 * itself
	 */
	bool event_queue;
	/*
	 * The device calls this when the guest connects to the host's `port`. Returns the
	 * descriptor that carries the stream, which the device then owns, or -errno to refuse.
	 * *ret_use is VSOCK_BOTH at first. The callback reduces it to the wanted direction if the
	 * descriptor is open for more, like a terminal that serves as standard output, because the
	 * device would otherwise read from it. Runs in the thread that serves the device.
	 */
	int (*connect)(void *ctx, uint32_t guest_port, uint32_t port, unsigned *ret_use);
	/*
	 * The device calls this when it has closed the descriptor of a stream, also if
	 * virtio_vsock_dial() made the stream. Runs in any thread. NULL: nothing is called.
	 */
	void (*closed)(void *ctx, uint32_t guest_port, uint32_t port);
	void *ctx;
};

struct vsock_reset {
	uint64_t cid;
	uint32_t port, guest_port;
	uint16_t type;
};

enum { VSOCK_QUEUE_RX, VSOCK_QUEUE_TX, VSOCK_QUEUE_EVENT };

/* A receive buffer of the guest that was taken from the queue and is not filled yet. */
struct vsock_room {
	uint16_t head;
	uint32_t len; /* bytes of room for data, not counting the packet's header */
	unsigned header_parts;
	struct iovec header[VSOCK_HEADER];
};

struct virtio_vsock {
	struct virtio_device dev;
	struct virtio_vsock_config config;
	struct virtio_vsock_options options;
	int wake; /* eventfd that dev.event_fd watches; written when there is more to do */
	uint32_t next_port;
	struct vsock_conn *conns[VSOCK_CONNS_MAX];
	unsigned count, large, turn;
	bool starved; /* the guest has given no receive buffer, so the device waits for a kick */
	/* a reset is under way: the device makes no new connections and sends no answers */
	bool ending;
	/*
	 * Resets to send for packets that belong to no connection. If the array is full, the device
	 * takes no packet.
	 */
	struct vsock_reset resets[VSOCK_RESETS_MAX];
	unsigned reset_count;
	/*
	 * The guest has to be told that the device was restored from a snapshot, so that all
	 * connections are gone and the CID may be another one.
	 */
	bool restored;
	/*
	 * If set, the device reads nothing from the descriptors, except from that of the host's
	 * port `spared`.
	 */
	bool held;
	uint32_t spared;
	struct virtq_chain chain;
	struct vsock_room rooms[VSOCK_BATCH];
	struct iovec part[VIRTQ_CHAIN_MAX];
};

int virtio_vsock_init(struct virtio_vsock *v, const struct vm_memory *m,
	const struct virtio_vsock_options *o) must_check;
/*
 * Closes the descriptors of all streams. Data of the guest that virtio_vsock_drain() has not
 * written is lost. The caller still has to call virtio_release().
 */
void virtio_vsock_release(struct virtio_vsock *v);

/*
 * Connects fd to a port of the guest. The directions are `use`, an enum vsock_use. The device owns
 * fd from then on, even if the call fails, and closes it if the guest does not listen at the port.
 * Returns the stream's host port (> 0), which the callback closed() also gets. Returns -ENOTCONN if
 * the guest's driver is not ready, -EBUSY if VSOCK_CONNS_MAX connections are open.
 *
 * So far only tests call this function.
 */
int virtio_vsock_dial(struct virtio_vsock *v, uint32_t guest_port, int fd, unsigned use) must_check;

/*
 * Makes the device tell the guest that it was restored from a snapshot, for a transport that does
 * not load the device's state itself.
 */
void virtio_vsock_restored(struct virtio_vsock *v);

/*
 * Reports how much of the guest's data for this host port has arrived: *ret_written is the number
 * of bytes, modulo 2^32, that were written to the descriptor, and *ret_kept the number of bytes
 * that the descriptor did not take yet. Any thread may call this. Returns -ENOENT, without a
 * message, if the stream does not exist any more.
 */
int virtio_vsock_progress(struct virtio_vsock *v, uint32_t port, uint32_t *ret_written,
	uint32_t *ret_kept) must_check;

/*
 * Writes the data that the guest has sent, and waits for slow readers, at most timeout_ms
 * milliseconds (-1: no limit). The thread that served the device calls this after the guest has
 * ended. Returns -ETIMEDOUT if data is left.
 */
int virtio_vsock_drain(struct virtio_vsock *v, int timeout_ms) must_check;

/*
 * Makes the device read nothing more from the descriptors, except from that of the host's port
 * `spared`, or lets it read again. The guest's data still flows. Any thread may call this.
 */
void virtio_vsock_hold(struct virtio_vsock *v, bool held, uint32_t spared);

/* --- vsock_table.c: the table of connections; the caller holds the device's lock --- */

struct vsock_conn *vsock_find_conn(
	const struct virtio_vsock *v, uint32_t guest_port, uint32_t port);
/* Makes a connection for the descriptor, which the connection then owns, even if the call fails. */
int vsock_add_conn(struct virtio_vsock *v, int fd, unsigned use, struct vsock_conn **ret)
	must_check;
/*
 * Completes a change of a connection; has to be called after each function that changes a
 * connection. Tells the owner if the descriptor was closed, and frees the connection if both sides
 * have forgotten it.
 */
void vsock_settle_conn(struct virtio_vsock *v, struct vsock_conn *c);

/* --- vsock_rx.c: the receive queue; the caller holds the device's lock --- */

/*
 * Sends the guest the packets and the data that wait. Returns 0 if nothing is left or the guest has
 * no more buffers, 1 if the limit of packets for one call was reached, or -errno if the driver
 * broke the queue.
 */
int vsock_fill_rx(struct virtio_vsock *v);
