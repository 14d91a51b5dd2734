/* SPDX-License-Identifier: Apache-2.0 */
/* Fills the receive queue of the vsock device with the packets that go to the guest. */
#include <endian.h>
#include <inttypes.h>
#include <string.h>

#include "vm/virtio/vsock.h"

#define READ_MAX (64U << 10)

/*
 * Takes the next receive buffer of the guest. Returns 1 with the buffer in v->chain, or 0 if there
 * is no buffer; the guest will kick when it gives one.
 */
static int take_room(struct virtio_vsock *v)
{
	int r = virtq_next(&v->dev.queues[VSOCK_QUEUE_RX], &v->chain);

	if (r > 0 && (v->chain.readable > 0 || v->chain.write_len <= VSOCK_HEADER))
		return err_set(EPROTO,
			"a receive buffer with %" PRIu64 " bytes to read and %" PRIu64
			" to write: expected none to read, and more than %u to write",
			v->chain.read_len, v->chain.write_len, VSOCK_HEADER);
	return r;
}

static struct virtio_vsock_hdr packet_header(
	const struct virtio_vsock *v, const struct vsock_packet *p)
{
	return (struct virtio_vsock_hdr){.src_cid = htole64(p->src_cid),
		.dst_cid = htole64(v->options.cid),
		.src_port = htole32(p->src_port),
		.dst_port = htole32(p->dst_port),
		.len = htole32(p->len),
		.type = htole16(p->type),
		.op = htole16(p->op),
		.flags = htole32(p->flags),
		.buf_alloc = htole32(p->buf_alloc),
		.fwd_cnt = htole32(p->fwd_cnt)};
}

/*
 * Sends the guest a packet without data. Returns the number of packets sent: 1, or 0 if the guest
 * has no buffer for it.
 */
static int send_packet(struct virtio_vsock *v, const struct vsock_packet *p)
{
	struct virtio_vsock_hdr h = packet_header(v, p);
	int r = take_room(v);

	if (r > 0) {
		virtq_write(&v->chain, 0, &h, VSOCK_HEADER);
		virtq_push(&v->dev.queues[VSOCK_QUEUE_RX], v->chain.head, VSOCK_HEADER);
	} else if (r == 0) {
		v->starved = true;
	}
	return r;
}

static struct vsock_packet conn_packet(const struct vsock_conn *c, uint16_t op, uint32_t flags)
{
	return (struct vsock_packet){.src_cid = VSOCK_HOST_CID,
		.src_port = c->port,
		.dst_port = c->guest_port,
		.type = VIRTIO_VSOCK_TYPE_STREAM,
		.op = op,
		.flags = flags,
		.buf_alloc = c->size,
		.fwd_cnt = c->done};
}

static int send_resets(struct virtio_vsock *v)
{
	unsigned n = 0;
	int r = 1;

	while (n < v->reset_count) {
		const struct vsock_reset *e = &v->resets[n];

		r = send_packet(v, &(struct vsock_packet){.src_cid = e->cid,
					   .src_port = e->port,
					   .dst_port = e->guest_port,
					   .type = e->type,
					   .op = VIRTIO_VSOCK_OP_RST});
		if (r <= 0)
			break;
		n++;
	}
	v->reset_count -= n;
	memmove(v->resets, v->resets + n, v->reset_count * sizeof(v->resets[0]));
	return r < 0 ? r : (int)n;
}

/*
 * Takes the guest's receive buffers for one read of at most `credit` bytes. Returns the number of
 * buffers taken.
 */
static int take_rooms(struct virtio_vsock *v, unsigned most, uint32_t credit, unsigned *ret_parts)
{
	uint32_t left = credit < READ_MAX ? credit : READ_MAX;
	unsigned n = 0, parts = 0;

	while (n < most && left > 0) {
		int r = take_room(v);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		if (parts + v->chain.writable > VIRTQ_CHAIN_MAX) {
			/*
			 * Puts back the buffer with which the read would have more than
			 * VIRTQ_CHAIN_MAX parts, so that the next read uses it.
			 */
			virtq_unpop(&v->dev.queues[VSOCK_QUEUE_RX], 1);
			break;
		}
		struct vsock_room *w = &v->rooms[n++];
		uint64_t len = v->chain.write_len - VSOCK_HEADER;
		w->head = v->chain.head;
		w->len = len < left ? (uint32_t)len : left;
		w->header_parts = virtq_slice(&v->chain, true, 0, VSOCK_HEADER, w->header);
		parts += virtq_slice(&v->chain, true, VSOCK_HEADER, w->len, v->part + parts);
		left -= w->len;
	}
	*ret_parts = parts;
	return (int)n;
}

static void deliver_data(struct virtio_vsock *v, const struct vsock_room *w, struct vsock_packet *p)
{
	struct virtio_vsock_hdr h = packet_header(v, p);
	size_t done = 0;

	for (unsigned i = 0; i < w->header_parts; i++) {
		memcpy(w->header[i].iov_base, (uint8_t *)&h + done, w->header[i].iov_len);
		done += w->header[i].iov_len;
	}
	virtq_push(&v->dev.queues[VSOCK_QUEUE_RX], w->head, VSOCK_HEADER + p->len);
}

/*
 * Reads once from the descriptor into at most c->batch of the guest's buffers. The batch starts at
 * 1 and grows after each read that fills all of its buffers. Returns the number of packets sent.
 */
static int send_data(struct virtio_vsock *v, struct vsock_conn *c, uint32_t credit)
{
	unsigned parts = 0;
	int n = take_rooms(v, c->batch, credit, &parts), used = 0;

	if (n <= 0) {
		v->starved = n == 0;
		return n;
	}
	size_t room = 0;
	for (int i = 0; i < n; i++)
		room += v->rooms[i].len;
	ssize_t got = vsock_stream_read(&c->stream, v->part, parts);
	struct vsock_packet p = conn_packet(c, VIRTIO_VSOCK_OP_RW, 0);
	for (size_t left = got > 0 ? (size_t)got : 0; left > 0; left -= p.len) {
		const struct vsock_room *w = &v->rooms[used++];

		p.len = left < w->len ? (uint32_t)left : w->len;
		deliver_data(v, w, &p);
	}
	/*
	 * Puts the receive buffers that the read did not fill back into the queue, as if they had
	 * not been taken.
	 */
	virtq_unpop(&v->dev.queues[VSOCK_QUEUE_RX], (unsigned)(n - used));
	if (used > 0)
		vsock_conn_sent_op(c, VIRTIO_VSOCK_OP_RW, 0);
	vsock_conn_was_read(c, got, room);
	return used;
}

/* Sends the guest what one connection has to send. Returns the number of packets. */
static int send_for(struct virtio_vsock *v, struct vsock_conn *c)
{
	uint32_t credit = v->held && c->port != v->spared ? 0 : vsock_conn_credit(c), flags;
	int sent = credit > 0 ? send_data(v, c, credit) : 0;
	uint16_t op;

	while (sent >= 0 && !v->starved && (op = vsock_conn_op(c, &flags))) {
		struct vsock_packet p = conn_packet(c, op, flags);
		int r = send_packet(v, &p);

		if (r < 0)
			return r;
		if (r > 0)
			vsock_conn_sent_op(c, op, flags);
		sent += r;
	}
	return sent;
}

int vsock_fill_rx(struct virtio_vsock *v)
{
	int budget = v->dev.queues[VSOCK_QUEUE_RX].size;

	if (!v->dev.queues[VSOCK_QUEUE_RX].ready)
		return 0;
	v->starved = false;
	int r = send_resets(v);
	for (unsigned idle = 0; r >= 0 && !v->starved && budget > 0 && idle < v->count;) {
		unsigned before = v->count;
		struct vsock_conn *c = v->conns[v->turn % before];

		r = send_for(v, c);
		vsock_settle_conn(v, c);
		/*
		 * If the guest has no buffer left for this connection, the same connection is
		 * served first at the next call.
		 */
		if (v->count == before && (r > 0 || !v->starved))
			v->turn = (v->turn + 1) % before;
		idle = r > 0 ? 0 : idle + 1;
		budget -= r > 0 ? r : 0;
		if (r > 0)
			virtio_signal_queue(&v->dev, VSOCK_QUEUE_RX);
	}
	virtio_signal_queue(&v->dev, VSOCK_QUEUE_RX);
	return r < 0 ? r : budget <= 0;
}
