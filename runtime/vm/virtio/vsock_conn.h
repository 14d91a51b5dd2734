/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Defines one connection of the vsock device (virtio 1.2, 5.10.6): its state, the guest's credit,
 * and the packets that must be sent to the guest. This code does not touch queues: vsock.c owns the
 * connection, moves the packets and holds the device's lock.
 *
 * The two directions end independently. The connection keeps data from the guest that the
 * descriptor does not take yet, at most `size` bytes, because that is the credit of the guest. A
 * connection that the guest has reset stays until this data is written.
 */
#pragma once
#include <linux/virtio_vsock.h>

#include "vm/virtio/queue.h"
#include "vm/virtio/vsock_stream.h"

#define VSOCK_HEADER ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define VSOCK_BATCH 16 /* receive buffers that one read can fill */

enum vsock_state {
	/*
	 * the device has asked the guest to connect (virtio_vsock_dial()), and the guest has not
	 * answered yet
	 */
	VSOCK_DIALED,
	VSOCK_CONNECTED, /* the guest may send and receive data */
	VSOCK_FORGOTTEN, /* the guest does not know the connection any more */
};

struct vsock_packet {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port;
	uint32_t len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
};

struct vsock_conn {
	uint32_t guest_port, port;
	enum vsock_state state;
	struct vsock_stream stream;
	bool told_closed; /* the callback closed() was called for this connection */
	/* the guest sends no more data; some of the data may still have to be written */
	bool guest_ended;
	uint32_t guest_shutdown; /* VIRTIO_VSOCK_SHUTDOWN_ flags that the guest has sent */
	/* VIRTIO_VSOCK_SHUTDOWN_ flags that the device has sent to the guest */
	uint32_t sent_shutdown;
	/* packets that have to be sent to the guest, as bits 1 << VIRTIO_VSOCK_OP_ */
	unsigned ops;
	/* ring buffer of `size` bytes for data from the guest; NULL until it is needed */
	uint8_t *buf;
	/* size: bytes of `buf`, also the guest's credit; start, len: the part with data */
	uint32_t size, start, len;
	/*
	 * done: bytes from the guest that were written to the descriptor; told: the value of `done`
	 * in the last packet to the guest
	 */
	uint32_t done, told;
	/*
	 * sent: bytes of data sent to the guest; peer_size, peer_done: the guest's buffer size and
	 * the bytes that it has consumed, as in its last packet
	 */
	uint32_t sent, peer_size, peer_done;
	/* the device has asked the guest for a credit update, and the guest has not sent one yet */
	bool asked;
	unsigned batch;
};

/*
 * Makes a connection for fd, which the connection then owns, even if the call fails. `use` is an
 * enum vsock_use.
 */
int vsock_conn_new(struct vsock_conn **ret, int fd, unsigned use, int epoll) must_check;
/*
 * Starts the connection, after the caller has set ports and size. In the state VSOCK_DIALED the
 * device asks the guest to connect; in the state VSOCK_CONNECTED it accepts the guest's request.
 */
void vsock_conn_start(struct vsock_conn *c, enum vsock_state state);
void vsock_conn_free(struct vsock_conn *c);

/*
 * Handles a packet from the guest. The packet's p->len bytes of data are in the readable part of
 * `chain`. `part` is a scratch array of VIRTQ_CHAIN_MAX entries.
 */
void vsock_conn_receive(struct vsock_conn *c, const struct vsock_packet *p,
	const struct virtq_chain *chain, struct iovec *part);

/* Handles the epoll events that were reported for the descriptor. */
void vsock_conn_event(struct vsock_conn *c, uint32_t events);

/*
 * Ends the exchange with the guest, because the device is reset or released: nothing more is
 * received from the guest or sent to it.
 */
void vsock_conn_forget(struct vsock_conn *c);

/*
 * Returns the operation (VIRTIO_VSOCK_OP_) of the next packet to the guest, with its flags, or 0
 * (VIRTIO_VSOCK_OP_INVALID) if there is no packet to send.
 */
uint16_t vsock_conn_op(const struct vsock_conn *c, uint32_t *ret_flags);
/* Records that a packet with this operation and the present credit was sent to the guest. */
void vsock_conn_sent_op(struct vsock_conn *c, uint16_t op, uint32_t flags);

/* Returns how many bytes the device may now read from the descriptor for the guest. */
uint32_t vsock_conn_credit(struct vsock_conn *c);
/*
 * Records the result of a read from the descriptor into the guest's buffers, which have `room`
 * bytes: n is the number of bytes, 0 at the end of the input, or -errno.
 */
void vsock_conn_was_read(struct vsock_conn *c, ssize_t n, size_t room);

static inline bool vsock_conn_is_pending(const struct vsock_conn *c)
{
	return c->len > 0;
}

/* Returns true if both sides have forgotten the connection, so that it has to be freed. */
static inline bool vsock_conn_is_gone(const struct vsock_conn *c)
{
	return c->state == VSOCK_FORGOTTEN && c->stream.fd < 0;
}
