/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of the vsock device (virtio 1.2, 5.10.6): what its state is, what the guest may
 * send, what is to be said to the guest next. Knows nothing of queues; vsock.c owns it, moves the
 * packets and holds the device's lock.
 *
 * The two directions end by themselves. Data of the guest's that its descriptor does not take is
 * kept here, and that is all that is ever kept: `size` bytes, which is the credit that the guest
 * has. A connection that the guest has reset or forgotten stays until that is written.
 */
#pragma once
#include <linux/virtio_vsock.h>

#include "vm/virtio/queue.h"
#include "vm/virtio/vsock_stream.h"

#define VSOCK_HEADER ((uint32_t)sizeof(struct virtio_vsock_hdr))
#define VSOCK_BATCH 16 /* receive buffers filled by one read */

enum vsock_state {
	VSOCK_DIALED,    /* ours, and not answered yet */
	VSOCK_CONNECTED, /* the guest may send, and is sent to */
	VSOCK_FORGOTTEN, /* the guest knows it no more */
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
	bool told_closed;          /* for the owner */
	bool guest_ended;          /* it sends no more; what it sent may still be to be written */
	uint32_t guest_shutdown;   /* VIRTIO_VSOCK_SHUTDOWN_ flags that the guest has sent */
	uint32_t said_shutdown;    /* and that we have */
	unsigned say;              /* ops to send, as 1 << op */
	uint8_t *buf;              /* a ring of `size` bytes, from when it is needed on */
	uint32_t size, start, len; /* size: how much of the guest's data may wait */
	uint32_t done, told;       /* bytes from the guest that are written on, and as last told */
	uint32_t sent, peer_size, peer_done; /* to the guest, and its credit as last heard */
	bool asked;                          /* for credit, and none has come */
	unsigned batch;
};

/* fd becomes the connection's, also on failure; `use` is of enum vsock_use. */
int vsock_conn_new(struct vsock_conn **ret, int fd, unsigned use, int epoll) must_check;
/* DIALED, or CONNECTED as the answer to the guest. Ports and size are the caller's to set. */
void vsock_conn_start(struct vsock_conn *c, enum vsock_state state);
void vsock_conn_free(struct vsock_conn *c);

/*
 * A packet for it. Its p->len bytes of payload are there in the readable part of `chain`; `part` is
 * VIRTQ_CHAIN_MAX entries to work with.
 */
void vsock_conn_receive(struct vsock_conn *c, const struct vsock_packet *p,
	const struct virtq_chain *chain, struct iovec *part);

/* Its descriptor has news. */
void vsock_conn_event(struct vsock_conn *c, uint32_t events);

/* The device is reset, or goes: nothing is heard from or said to the guest any more. */
void vsock_conn_forget(struct vsock_conn *c);

/* The op to send to the guest next and its flags, or 0 (_OP_INVALID). */
uint16_t vsock_conn_op(const struct vsock_conn *c, uint32_t *ret_flags);
/* A packet is on its way to the guest, with the credit that told it. */
void vsock_conn_said(struct vsock_conn *c, uint16_t op, uint32_t flags);

/* How many bytes may be read for the guest now; 0: none, for whatever reason. */
uint32_t vsock_conn_credit(struct vsock_conn *c);
/* What reading them gave: bytes of `room`, 0 at the end, or -errno. */
void vsock_conn_was_read(struct vsock_conn *c, ssize_t n, size_t room);

static inline bool vsock_conn_is_pending(const struct vsock_conn *c)
{
	return c->len > 0;
}

/* Nothing is left of it: free it. */
static inline bool vsock_conn_is_gone(const struct vsock_conn *c)
{
	return c->state == VSOCK_FORGOTTEN && c->stream.fd < 0;
}
