/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves frames from the tap into the guest's buffers.
 *
 * Theory of operation. The device takes buffers from the queue in advance, until a frame of any
 * size has room, and then reads a frame into them. The device holds buffers that the frame did not
 * need for the next frame. The last part of each read is a buffer of the device's own (`rest`). If
 * the guest's buffers are too short for a frame, the end of the frame stays in `rest` until the
 * guest has given more. If there is no buffer at all, the device reads nothing; frames then wait in
 * the tap, and the kernel drops those that do not fit there.
 */
#include <endian.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>

#include "vm/virtio/iov.h"
#include "vm/virtio/net_internal.h"

/* parts of a read in guest memory: one less than IOV_MAX, because `rest` is the last part */
#define PARTS_MAX (VIRTQ_CHAIN_MAX - 1)
#define BUFFERS_MAX 256

struct net_buffer {
	/* head: number of the request in the queue; parts: number of its entries in net_rx.part */
	uint16_t head, parts;
	uint32_t len;
};

struct net_rx {
	bool mergeable;
	uint64_t want; /* bytes of room that are enough for any expected frame */
	/* Buffers taken from the queue and not yet given back, in the order of the queue. */
	struct net_buffer buffer[BUFFERS_MAX];
	struct iovec part[PARTS_MAX + 1];
	unsigned buffers, parts;
	uint64_t room;
	/* all entries of the arrays are used, so that the device can hold no more buffers */
	bool full;
	uint64_t kept; /* length of the frame that waits for more buffers; 0: no frame waits */
	/* bytes of the frame that waits that are in `rest`, and not in guest memory */
	uint64_t kept_rest;
	struct virtq_chain chain;
	uint8_t rest[NET_FRAME_MAX];
};

static void copy_to_buffers(struct net_rx *rx, uint64_t offset, const void *data, size_t len)
{
	(void)iov_write((struct iov_range){rx->part, rx->parts, offset, len}, data);
}

/*
 * Adds the receive buffer in rx->chain to those that the device holds, as far as a frame can need
 * its room. Returns false if too few entries of rx->part are free.
 */
static bool hold_buffer(struct net_rx *rx)
{
	const struct virtq_chain *c = &rx->chain;
	struct net_buffer b = {.head = c->head};
	unsigned parts = rx->parts;

	for (unsigned i = 0; i < c->writable && b.len < NET_FRAME_MAX; i++) {
		size_t left = NET_FRAME_MAX - b.len, len = c->iov[i].iov_len;

		if (parts == PARTS_MAX && rx->parts > 0)
			return false;
		/*
		 * One readv() of the tap takes at most PARTS_MAX parts of guest memory. If a single
		 * receive buffer has more, its last parts stay unused.
		 */
		if (parts == PARTS_MAX)
			break;
		len = len < left ? len : left;
		rx->part[parts++] = (struct iovec){c->iov[i].iov_base, len};
		b.len += (uint32_t)len;
		b.parts++;
	}
	rx->parts = parts;
	rx->room += b.len;
	rx->buffer[rx->buffers++] = b;
	return true;
}

static int refill_buffers(struct virtio_net *n, unsigned pair)
{
	struct virtq *q = &n->dev.queues[net_rx_queue(pair)];
	struct net_rx *rx = n->pairs[pair].rx;
	unsigned max = rx->mergeable ? BUFFERS_MAX : 1;

	max = max < q->size ? max : q->size;
	/*
	 * The waiting frame can be longer than expected, if the peer of the tap has a larger MTU.
	 */
	uint64_t want = rx->kept > rx->want ? rx->kept : rx->want;
	rx->full = false;
	while (rx->room < want && !rx->full) {
		if (rx->buffers == max) {
			rx->full = true;
			break;
		}
		int r = virtq_pop(q, &rx->chain);
		if (r <= 0)
			return r;
		/*
		 * Each buffer must have room for a header, with or without mergeable buffers
		 * (virtio 1.2, 5.1.6.3.1).
		 */
		if (rx->chain.readable > 0 || rx->chain.write_len < NET_HEADER)
			return err_set(EPROTO,
				"a receive buffer of %llu bytes: expected at least %zu to write, "
				"and none to read",
				(unsigned long long)rx->chain.write_len, NET_HEADER);
		if (!hold_buffer(rx)) {
			virtq_unpop(q, 1);
			rx->full = true;
		}
	}
	return 0;
}

/* Gives the guest the frame of `len` bytes that was read into the buffers that the device holds. */
static void deliver_frame(struct virtio_net *n, unsigned pair, uint64_t len)
{
	struct virtq *q = &n->dev.queues[net_rx_queue(pair)];
	struct net_rx *rx = n->pairs[pair].rx;
	unsigned used = 0, parts = 0;
	uint16_t count;

	for (uint64_t left = len; left > 0; used++) {
		struct net_buffer *b = &rx->buffer[used];
		uint32_t here = left < b->len ? (uint32_t)left : b->len;

		virtq_stage(q, b->head, here);
		left -= here;
		rx->room -= b->len;
		parts += b->parts;
	}
	/* The device sets num_buffers, because the kernel does not set this field. */
	count = htole16((uint16_t)used);
	copy_to_buffers(rx, offsetof(struct virtio_net_hdr_v1, num_buffers), &count, sizeof(count));
	virtq_publish(q);
	rx->buffers -= used;
	rx->parts -= parts;
	memmove(rx->buffer, rx->buffer + used, rx->buffers * sizeof(*rx->buffer));
	memmove(rx->part, rx->part + parts, rx->parts * sizeof(*rx->part));
	n->rx_frames++;
}

/*
 * Gives the guest the frame that waits for more buffers. Returns false if all buffers that the
 * device holds are still too short for the frame.
 */
static bool deliver_kept(struct virtio_net *n, unsigned pair)
{
	struct net_rx *rx = n->pairs[pair].rx;

	if (rx->kept > rx->room && !rx->full)
		return false;
	if (rx->kept > rx->room) {
		n->rx_dropped++; /* the frame is longer than the whole queue has room for */
	} else {
		copy_to_buffers(rx, rx->kept - rx->kept_rest, rx->rest, (size_t)rx->kept_rest);
		deliver_frame(n, pair, rx->kept);
	}
	rx->kept = 0;
	return true;
}

/* Reads one frame from the tap. Returns 1 to continue, or 0 if there is no frame. */
static int read_frame(struct virtio_net *n, unsigned pair)
{
	struct net_rx *rx = n->pairs[pair].rx;

	rx->part[rx->parts] = (struct iovec){rx->rest, sizeof(rx->rest)};
	ssize_t got = readv(n->options.taps[pair], rx->part, (int)rx->parts + 1);
	if (got < 0 && errno == EINTR)
		return 1;
	if (got < 0) {
		if (errno != EAGAIN)
			net_lose_tap(n);
		return 0;
	}
	if ((size_t)got < NET_HEADER) {
		n->rx_dropped++;
	} else if ((uint64_t)got <= rx->room) {
		deliver_frame(n, pair, (uint64_t)got);
	} else {
		rx->kept = (uint64_t)got;
		rx->kept_rest = rx->kept - rx->room;
	}
	return 1;
}

int net_rx_serve(struct virtio_net *n, unsigned pair, unsigned budget)
{
	struct virtq *q = &n->dev.queues[net_rx_queue(pair)];
	struct net_rx *rx = n->pairs[pair].rx;
	int r = 0;

	n->pairs[pair].rx_wait = false;
	while (!n->dead) {
		r = refill_buffers(n, pair);
		if (r < 0)
			break;
		if (rx->kept ? !deliver_kept(n, pair) : rx->buffers == 0) {
			if (virtq_arm(q))
				continue;
			n->pairs[pair].rx_wait = true;
			break;
		}
		/*
		 * Checks the limit of frames only after the waiting frame was handled, because that
		 * frame is in this process and not in the tap, so no event would make the event
		 * loop handle it.
		 */
		if (budget-- == 0) {
			r = 1;
			break;
		}
		if (rx->buffers > 0 && read_frame(n, pair) == 0)
			break;
	}
	virtio_signal_queue(&n->dev, net_rx_queue(pair));
	return r;
}

int net_rx_init(struct net_rx **ret)
{
	*ret = calloc(1, sizeof(**ret));
	return *ret ? 0 : err_set(ENOMEM, "out of memory");
}

void net_rx_start(const struct virtio_net *n, struct net_rx *rx, unsigned offloads)
{
	rx->mergeable = net_has_feature(n, VIRTIO_NET_F_MRG_RXBUF);
	rx->want = !rx->mergeable || (offloads & ~TUN_F_CSUM)
			   ? NET_FRAME_MAX
			   : NET_HEADER + NET_ETHERNET + n->options.mtu;
}

void net_rx_forget(struct net_rx *rx)
{
	rx->buffers = rx->parts = 0;
	rx->room = rx->kept = 0;
}

void net_rx_give_back(struct virtio_net *n, unsigned pair)
{
	virtq_unpop(&n->dev.queues[net_rx_queue(pair)], n->pairs[pair].rx->buffers);
	net_rx_forget(n->pairs[pair].rx);
}
