/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A direction of a connection ends when its sender has ended and all data is
 * delivered, or when its receiver wants no more:
 *
 *	to the guest     the descriptor's input has ended, or the guest sent SHUTDOWN(RCV)
 *	from the guest   the guest sent SHUTDOWN(SEND) and all is written, or the descriptor takes
 *	                 no more
 *
 * The device tells the guest by a SHUTDOWN packet which direction has ended on the host. When both
 * directions have ended, the side that has received the last SHUTDOWN answers with RST, and both
 * sides forget the connection (virtio 1.2, 5.10.6.5). Until the guest answers, the connection stays
 * in the table without its descriptor.
 */
#include "vm/virtio/vsock_conn.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#define BOTH (VIRTIO_VSOCK_SHUTDOWN_RCV | VIRTIO_VSOCK_SHUTDOWN_SEND)
#define BIT(op) (1U << VIRTIO_VSOCK_OP_##op)

int vsock_conn_new(struct vsock_conn **ret, int fd, unsigned use, int epoll)
{
	struct vsock_conn *c = calloc(1, sizeof(*c));

	if (!c) {
		fd_close(&fd);
		return err_set(ENOMEM, "out of memory for a vsock connection");
	}
	int r = vsock_stream_open(&c->stream, fd, use, epoll, c);
	if (r < 0)
		free(c);
	else
		*ret = c;
	return r;
}

void vsock_conn_start(struct vsock_conn *c, enum vsock_state state)
{
	c->state = state;
	c->batch = 1;
	c->ops = state == VSOCK_DIALED ? BIT(REQUEST) : BIT(RESPONSE);
}

void vsock_conn_free(struct vsock_conn *c)
{
	vsock_stream_end(&c->stream, VSOCK_BOTH);
	free(c->buf);
	free(c);
}

/*
 * Ends the direction from the guest after all its data is written, and queues an RST when both
 * directions have ended. Each function that changes the connection calls this one.
 */
static void update_conn(struct vsock_conn *c)
{
	if (c->guest_ended && c->len == 0)
		vsock_stream_end(&c->stream, VSOCK_FROM_GUEST);
	if (c->stream.fd < 0 && c->guest_shutdown == BOTH)
		c->ops |= BIT(RST);
}

static void count_written(struct vsock_conn *c, uint32_t n)
{
	c->done += n;
	/*
	 * Sends the guest a credit update when half of its credit has been written to the
	 * descriptor, so that the guest need not wait for credit.
	 */
	if (c->done - c->told >= c->size / 2)
		c->ops |= BIT(CREDIT_UPDATE);
}

/*
 * Drops the data that the guest has sent and that is not written yet, because the reader of the
 * descriptor has closed it.
 */
static void fail_output(struct vsock_conn *c)
{
	vsock_stream_end(&c->stream, VSOCK_FROM_GUEST);
	count_written(c, c->len);
	c->len = c->start = 0;
}

static void write_kept(struct vsock_conn *c)
{
	while (c->len > 0 && c->stream.writable) {
		uint32_t first = c->size - c->start;
		struct iovec part[2] = {
			{c->buf + c->start, c->len < first ? c->len : first}, {c->buf, 0}};

		part[1].iov_len = c->len - part[0].iov_len;
		ssize_t n = vsock_stream_write(&c->stream, part, part[1].iov_len ? 2 : 1);
		if (n == -EAGAIN)
			break;
		if (n <= 0) {
			fail_output(c);
			break;
		}
		c->start = (c->start + (uint32_t)n) % c->size;
		c->len -= (uint32_t)n;
		count_written(c, (uint32_t)n);
	}
	if (c->stream.fd >= 0)
		vsock_stream_watch_output(&c->stream, c->len > 0);
}

/*
 * Resets the connection, because the guest has broken the protocol or memory is short. Still writes
 * the valid data that the guest has sent.
 */
static void abort_conn(struct vsock_conn *c)
{
	c->ops |= BIT(RST);
	c->guest_ended = true;
	vsock_stream_end(&c->stream, VSOCK_TO_GUEST);
}

static void keep_data(
	struct vsock_conn *c, const struct virtq_chain *chain, uint64_t offset, uint32_t len)
{
	if (!c->buf)
		c->buf = malloc(c->size);
	if (!c->buf) {
		abort_conn(c);
		return;
	}
	while (len > 0) {
		uint32_t end = (c->start + c->len) % c->size;
		uint32_t part = len < c->size - end ? len : c->size - end;

		virtq_read(chain, offset, c->buf + end, part);
		c->len += part;
		offset += part;
		len -= part;
	}
}

static void receive_data(
	struct vsock_conn *c, uint32_t len, const struct virtq_chain *chain, struct iovec *part)
{
	uint64_t offset = VSOCK_HEADER;
	ssize_t n = 0;

	if (len > c->size - c->len) {
		abort_conn(c); /* the guest has sent more than its credit */
		return;
	}
	if (c->guest_ended || !(c->stream.open & VSOCK_FROM_GUEST)) {
		/* Counts dropped data as written, so that the guest gets its credit back. */
		count_written(c, len);
		return;
	}
	while (len > 0 && c->len == 0 && c->stream.writable) {
		unsigned count = virtq_slice(chain, false, offset, len, part);
		n = vsock_stream_write(&c->stream, part, count);
		if (n <= 0)
			break;
		count_written(c, (uint32_t)n);
		offset += (uint64_t)n;
		len -= (uint32_t)n;
	}
	if (len > 0 && n <= 0 && n != -EAGAIN && c->len == 0 && c->stream.writable) {
		count_written(c, len);
		fail_output(c);
	} else if (len > 0) {
		keep_data(c, chain, offset, len);
		write_kept(c);
	}
}

static void receive_shutdown(struct vsock_conn *c, uint32_t flags)
{
	c->guest_shutdown |= flags & BOTH;
	if (flags & VIRTIO_VSOCK_SHUTDOWN_SEND)
		c->guest_ended = true;
	if (flags & VIRTIO_VSOCK_SHUTDOWN_RCV)
		vsock_stream_end(&c->stream, VSOCK_TO_GUEST);
}

void vsock_conn_forget(struct vsock_conn *c)
{
	c->state = VSOCK_FORGOTTEN;
	c->ops = 0;
	c->guest_ended = true;
	vsock_stream_end(&c->stream, VSOCK_TO_GUEST);
	update_conn(c);
}

void vsock_conn_receive(struct vsock_conn *c, const struct vsock_packet *p,
	const struct virtq_chain *chain, struct iovec *part)
{
	c->peer_size = p->buf_alloc;
	c->peer_done = p->fwd_cnt;
	if (c->sent - c->peer_done < c->peer_size)
		c->asked = false;
	if (p->op == VIRTIO_VSOCK_OP_RST) {
		vsock_conn_forget(c);
		return;
	}
	if (c->ops & BIT(RST))
		return;
	if (c->state == VSOCK_DIALED && p->op == VIRTIO_VSOCK_OP_RESPONSE &&
		!(c->ops & BIT(REQUEST)))
		c->state = VSOCK_CONNECTED;
	else if (c->state == VSOCK_DIALED)
		abort_conn(c);
	else if (p->op == VIRTIO_VSOCK_OP_RW)
		receive_data(c, p->len, chain, part);
	else if (p->op == VIRTIO_VSOCK_OP_SHUTDOWN)
		receive_shutdown(c, p->flags);
	else if (p->op == VIRTIO_VSOCK_OP_CREDIT_REQUEST)
		c->ops |= BIT(CREDIT_UPDATE);
	else if (p->op != VIRTIO_VSOCK_OP_CREDIT_UPDATE)
		abort_conn(c);
	update_conn(c);
}

void vsock_conn_event(struct vsock_conn *c, uint32_t events)
{
	vsock_stream_event(&c->stream, events);
	/*
	 * For a pipe, EPOLLERR means that its last reader has closed it. The device tells the guest
	 * at once that the direction has ended, and does not wait for the guest's next write.
	 */
	if (c->stream.fifo && (events & EPOLLERR))
		fail_output(c);
	else
		write_kept(c);
	update_conn(c);
}

/* Returns the flags of the SHUTDOWN packet that the device has to have sent to the guest by now. */
static uint32_t due_shutdown(const struct vsock_conn *c)
{
	uint32_t flags = 0;

	if (!(c->stream.open & VSOCK_TO_GUEST))
		flags |= VIRTIO_VSOCK_SHUTDOWN_SEND;
	/*
	 * If the guest itself has ended the direction from the guest, the device confirms that end
	 * only in the last SHUTDOWN packet.
	 */
	if (!(c->stream.open & VSOCK_FROM_GUEST) && (!c->guest_ended || c->stream.fd < 0))
		flags |= VIRTIO_VSOCK_SHUTDOWN_RCV;
	return c->guest_shutdown == BOTH ? 0 : flags;
}

uint16_t vsock_conn_op(const struct vsock_conn *c, uint32_t *ret_flags)
{
	static const uint16_t order[] = {VIRTIO_VSOCK_OP_RST, VIRTIO_VSOCK_OP_REQUEST,
		VIRTIO_VSOCK_OP_RESPONSE, VIRTIO_VSOCK_OP_SHUTDOWN, VIRTIO_VSOCK_OP_CREDIT_UPDATE,
		VIRTIO_VSOCK_OP_CREDIT_REQUEST};
	unsigned ops = c->ops;

	*ret_flags = 0;
	if (c->state == VSOCK_FORGOTTEN)
		return VIRTIO_VSOCK_OP_INVALID;
	if (c->state == VSOCK_DIALED)
		ops &= BIT(RST) | BIT(REQUEST);
	else if (due_shutdown(c) & ~c->sent_shutdown)
		ops |= BIT(SHUTDOWN);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		if (!(ops & 1U << order[i]))
			continue;
		if (order[i] == VIRTIO_VSOCK_OP_SHUTDOWN)
			*ret_flags = c->sent_shutdown | due_shutdown(c);
		return order[i];
	}
	return VIRTIO_VSOCK_OP_INVALID;
}

void vsock_conn_sent_op(struct vsock_conn *c, uint16_t op, uint32_t flags)
{
	/*
	 * Records that the guest knows its present credit, because each packet to the guest
	 * contains the credit.
	 */
	c->told = c->done;
	c->ops &= ~(1U << op | BIT(CREDIT_UPDATE));
	if (op == VIRTIO_VSOCK_OP_SHUTDOWN)
		c->sent_shutdown |= flags;
	if (op == VIRTIO_VSOCK_OP_RST)
		vsock_conn_forget(c);
}

uint32_t vsock_conn_credit(struct vsock_conn *c)
{
	uint32_t flying = c->sent - c->peer_done;

	if (c->state != VSOCK_CONNECTED || (c->ops & (BIT(RST) | BIT(RESPONSE))) ||
		!(c->stream.open & VSOCK_TO_GUEST) || !c->stream.readable)
		return 0;
	if (flying < c->peer_size)
		return c->peer_size - flying;
	if (!c->asked)
		c->ops |= BIT(CREDIT_REQUEST);
	c->asked = true;
	return 0;
}

void vsock_conn_was_read(struct vsock_conn *c, ssize_t n, size_t room)
{
	if (n > 0) {
		c->sent += (uint32_t)n;
		c->batch = (size_t)n == room && c->batch < VSOCK_BATCH ? c->batch * 4
			   : (size_t)n == room                         ? c->batch
								       : 1;
	} else if (n != -EAGAIN) {
		/*
		 * EIO counts as the end of the input, because read(2) returns it for a terminal
		 * that hung up.
		 */
		vsock_stream_end(&c->stream, VSOCK_TO_GUEST);
		update_conn(c);
	}
}
