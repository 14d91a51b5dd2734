/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of the vsock device (virtio 1.2, 5.10.6): its state, the data that the guest may
 * still send, and the packets that have to be sent to the guest. It knows nothing of queues:
 * vsock.c owns it, moves the packets and holds the device's lock.
 *
 * The two directions end independently. Data from the guest that the descriptor does not take is
 * kept here. No more is ever kept than `size` bytes, because that is the credit that the guest has.
 * A connection that the guest has reset or forgotten stays until that data is written.
 */
#pragma once
#include <linux/virtio_vsock.h>

#include "vm/virtio/queue.h"
#include "vm/virtio/vsock_stream.h"

#define VSOCK_HEADER ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define VSOCK_BATCH 16 /* receive buffers filled by one read */

enum vsock_state {
	VSOCK_DIALED,    /* made by the host, and not answered yet */
	VSOCK_CONNECTED, /* the guest may send and receive data */
	VSOCK_FORGOTTEN, /* the guest does not know it any more */
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
	bool told_closed; /* the owner has been told that the descriptor is closed */
	/* the guest sends no more; its data may still have to be written */
	bool guest_ended;
	uint32_t guest_shutdown;   /* VIRTIO_VSOCK_SHUTDOWN_ flags that the guest has sent */
	uint32_t sent_shutdown;    /* the same flags, as sent to the guest */
	unsigned ops;              /* packets to send, as 1 << op */
	uint8_t *buf;              /* a ring of `size` bytes; NULL until it is needed */
	uint32_t size, start, len; /* size: the most data from the guest that may wait */
	/* done: bytes from the guest that were written; told: the number in the last packet */
	uint32_t done, told;
	/*
	 * sent: bytes sent to the guest; peer_size, peer_done: the guest's credit in its last
	 * packet.
	 */
	uint32_t sent, peer_size, peer_done;
	bool asked; /* credit was requested, and none has come */
	unsigned batch;
};

/* fd becomes the connection's, also on failure; `use` is of enum vsock_use. */
int vsock_conn_new(struct vsock_conn **ret, int fd, unsigned use, int epoll) must_check;
/*
 * state: VSOCK_DIALED, or VSOCK_CONNECTED as the answer to the guest. The caller sets ports and
 * size.
 */
void vsock_conn_start(struct vsock_conn *c, enum vsock_state state);
void vsock_conn_free(struct vsock_conn *c);

/*
 * Handles a packet of the guest. Its p->len bytes of payload are in the readable part of `chain`.
 * `part` is an array of VIRTQ_CHAIN_MAX entries to work with.
 */
void vsock_conn_receive(struct vsock_conn *c, const struct vsock_packet *p,
	const struct virtq_chain *chain, struct iovec *part);

/* The descriptor has these epoll events. */
void vsock_conn_event(struct vsock_conn *c, uint32_t events);

/* The device is reset or released, so nothing more is received from the guest or sent to it. */
void vsock_conn_forget(struct vsock_conn *c);

/*
 * The op and the flags of the next packet to the guest, or 0 (VIRTIO_VSOCK_OP_INVALID) if there is
 * none.
 */
uint16_t vsock_conn_op(const struct vsock_conn *c, uint32_t *ret_flags);
/* Records that this packet was sent to the guest, with the present credit. */
void vsock_conn_sent_op(struct vsock_conn *c, uint16_t op, uint32_t flags);

/* The number of bytes that may be read for the guest now; 0 if none may. */
uint32_t vsock_conn_credit(struct vsock_conn *c);
/* Records the result of that read: n bytes into `room`, 0 at the end, or -errno. */
void vsock_conn_was_read(struct vsock_conn *c, ssize_t n, size_t room);

static inline bool vsock_conn_is_pending(const struct vsock_conn *c)
{
	return c->len > 0;
}

/* Nothing is left of the connection, so it has to be freed. */
static inline bool vsock_conn_is_gone(const struct vsock_conn *c)
{
	return c->state == VSOCK_FORGOTTEN && c->stream.fd < 0;
}
