/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. For frames to the guest the device takes buffers from the queue in advance,
 * until a frame of any size has room, and then reads a frame into them. The device holds buffers
 * that the frame did not need for the next frame. The last part of each read is a buffer of the
 * device's own (`rest`). If the guest's buffers are too short for a frame, the end of the frame
 * stays in `rest` until the guest has given more. If there is no buffer at all, the device reads
 * nothing; frames then wait in the tap, and the kernel drops those that do not fit there.
 *
 * For frames from the guest the device writes each request to the tap with one system call. If the
 * tap is full, the request goes back into the queue until the tap is writable.
 *
 * Each turn handles at most as many frames as the queue has entries, and raises one interrupt.
 */
#include "vm/virtio/virtio_net.h"

#include <endian.h>
#include <linux/if_tun.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_net.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "vm/virtio/iov.h"
#include "vm/virtio/net_offload.h"

enum { QUEUE_RX, QUEUE_TX };

#define HEADER sizeof(struct virtio_net_hdr_v1)
#define ETHERNET 18 /* bytes of an Ethernet header with a VLAN tag */
/* bytes of the largest frame that segmentation offload makes */
#define FRAME_MAX (HEADER + ETHERNET + 65536)
/* parts of a read in guest memory: one less than IOV_MAX, because `rest` is the last part */
#define PARTS_MAX (VIRTQ_CHAIN_MAX - 1)
#define BUFFERS_MAX 256
/* the most frames that are dropped at a reset; the queue of a tap holds 1000 */
#define STALE_MAX 2048

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
	uint8_t rest[FRAME_MAX];
};

static bool has_feature(const struct virtio_net *n, unsigned feature)
{
	return n->dev.driver_features >> feature & 1;
}

/*
 * Sets the events of the tap that the device's epoll descriptor reports. Without events the tap is
 * removed from epoll, because an error of the tap would otherwise wake the event loop again and
 * again.
 */
static void watch_tap(struct virtio_net *n, unsigned events)
{
	struct epoll_event e = {.events = events};
	int op = !events ? EPOLL_CTL_DEL : n->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (events != n->watched && epoll_ctl(n->dev.event_fd, op, n->options.tap, &e) == 0)
		n->watched = events;
}

static void update_watch(struct virtio_net *n)
{
	bool live = virtio_is_live(&n->dev) && !n->dead;

	watch_tap(n, live ? (n->rx_wait ? 0 : EPOLLIN) | (n->tx_full ? EPOLLOUT : 0) : 0);
}

/* Handles a tap that another process has deleted: the guest sees it as a cable that was pulled. */
static void lose_tap(struct virtio_net *n)
{
	n->dead = true;
	n->config.status = 0;
	if (n->dev.signal)
		n->dev.signal(n->dev.transport, VIRTIO_SIGNAL_CONFIG);
}

/* --- The receive queue: moves frames from the tap into the guest's buffers --- */

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

	for (unsigned i = 0; i < c->writable && b.len < FRAME_MAX; i++) {
		size_t left = FRAME_MAX - b.len, len = c->iov[i].iov_len;

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

static int refill_buffers(struct virtio_net *n)
{
	struct virtq *q = &n->dev.queues[QUEUE_RX];
	struct net_rx *rx = n->rx;
	unsigned max = rx->mergeable ? BUFFERS_MAX : 1;

	max = max < q->size ? max : q->size;
	/*
	 * The waiting frame can be longer than expected, if the peer of the tap has a larger MTU.
	 */
	uint64_t want = rx->kept > rx->want ? rx->kept : rx->want;
	rx->full = false;
	while (rx->room < want && !rx->full) {
		struct virtq before = *q;

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
		if (rx->chain.readable > 0 || rx->chain.write_len < HEADER)
			return err_set(EPROTO,
				"a receive buffer of %llu bytes: expected at least %zu to write, "
				"and none to read",
				(unsigned long long)rx->chain.write_len, HEADER);
		if (!hold_buffer(rx)) {
			*q = before;
			rx->full = true;
		}
	}
	return 0;
}

/* Gives the guest the frame of `len` bytes that was read into the buffers that the device holds. */
static void deliver_frame(struct virtio_net *n, uint64_t len)
{
	struct virtq *q = &n->dev.queues[QUEUE_RX];
	struct net_rx *rx = n->rx;
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
static bool deliver_kept(struct virtio_net *n)
{
	struct net_rx *rx = n->rx;

	if (rx->kept > rx->room && !rx->full)
		return false;
	if (rx->kept > rx->room) {
		n->rx_dropped++; /* the frame is longer than the whole queue has room for */
	} else {
		copy_to_buffers(rx, rx->kept - rx->kept_rest, rx->rest, (size_t)rx->kept_rest);
		deliver_frame(n, rx->kept);
	}
	rx->kept = 0;
	return true;
}

/* Reads one frame from the tap. Returns 1 to continue, or 0 if there is no frame. */
static int read_frame(struct virtio_net *n)
{
	struct net_rx *rx = n->rx;

	rx->part[rx->parts] = (struct iovec){rx->rest, sizeof(rx->rest)};
	ssize_t got = readv(n->options.tap, rx->part, (int)rx->parts + 1);
	if (got < 0 && errno == EINTR)
		return 1;
	if (got < 0) {
		if (errno != EAGAIN)
			lose_tap(n);
		return 0;
	}
	if ((size_t)got < HEADER) {
		n->rx_dropped++;
	} else if ((uint64_t)got <= rx->room) {
		deliver_frame(n, (uint64_t)got);
	} else {
		rx->kept = (uint64_t)got;
		rx->kept_rest = rx->kept - rx->room;
	}
	return 1;
}

static int serve_rx(struct virtio_net *n, unsigned budget)
{
	struct virtq *q = &n->dev.queues[QUEUE_RX];
	struct net_rx *rx = n->rx;
	int r = 0;

	n->rx_wait = false;
	while (!n->dead) {
		r = refill_buffers(n);
		if (r < 0)
			break;
		if (rx->kept ? !deliver_kept(n) : rx->buffers == 0) {
			if (virtq_arm(q))
				continue;
			n->rx_wait = true;
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
		if (rx->buffers > 0 && read_frame(n) == 0)
			break;
	}
	virtio_signal_queue(&n->dev, QUEUE_RX);
	return r;
}

/* --- The transmit queue: writes the guest's frames to the tap --- */

/*
 * Sends the frame in the request that was last taken from the transmit queue. Returns 1 if the
 * frame was sent or cannot be sent, or 0 if the tap is full.
 */
static int transmit_frame(struct virtio_net *n)
{
	const struct virtq_chain *c = n->tx;
	ssize_t done = -1;

	if (n->dead || c->read_len == HEADER || c->read_len > FRAME_MAX) {
		n->tx_dropped++;
		return 1;
	}
	do
		done = writev(n->options.tap, c->iov, (int)c->readable);
	while (done < 0 && errno == EINTR);
	if (done < 0 && errno == EAGAIN)
		return 0;
	/*
	 * EBADFD means that the tap is lost. Any other error concerns only this frame (EINVAL: its
	 * header is wrong) or is temporary (EIO: the tap is down).
	 */
	if (done < 0 && errno == EBADFD)
		lose_tap(n);
	*(done < 0 ? &n->tx_dropped : &n->tx_frames) += 1;
	return 1;
}

static int serve_tx(struct virtio_net *n, unsigned budget)
{
	struct virtq *q = &n->dev.queues[QUEUE_TX];
	int r = 0;

	n->tx_full = false;
	virtq_disarm(q);
	for (; budget > 0; budget--) {
		struct virtq before = *q;

		r = virtq_next(q, n->tx);
		if (r <= 0)
			break;
		if (n->tx->writable > 0 || n->tx->read_len < HEADER) {
			r = err_set(EPROTO,
				"a frame of %llu bytes to send: expected at least %zu of header, "
				"and nothing writable",
				(unsigned long long)n->tx->read_len, HEADER);
			break;
		}
		if (transmit_frame(n) == 0) {
			*q = before;
			n->tx_full = true;
			break;
		}
		virtq_push(q, n->tx->head, 0);
	}
	virtio_signal_queue(&n->dev, QUEUE_TX);
	return r < 0 ? r : budget == 0;
}

/* --- The functions of struct virtio_ops, which the transport and the event loop call --- */

static int net_serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	struct virtio_net *n = (struct virtio_net *)d;
	int r = index == QUEUE_RX ? serve_rx(n, budget) : serve_tx(n, budget);

	update_watch(n);
	return r;
}

static int net_event(struct virtio_device *d)
{
	struct virtio_net *n = (struct virtio_net *)d;
	bool rx, tx;

	pthread_mutex_lock(&d->lock);
	/* Stops watching the tap if another thread has stopped the device since the event. */
	update_watch(n);
	rx = n->watched & EPOLLIN;
	tx = n->watched & EPOLLOUT;
	pthread_mutex_unlock(&d->lock);
	/*
	 * The result of virtio_kick() for received frames is not used, because frames that are left
	 * after this turn are still in the tap. poll(2) then reports the tap as readable, and the
	 * event loop calls this function once more.
	 */
	if (rx)
		(void)virtio_kick(d, QUEUE_RX);
	if (!tx || virtio_kick(d, QUEUE_TX) == 0)
		return 0;
	pthread_mutex_lock(&d->lock);
	/* The tap is full. The device goes on with the requests when the tap is writable. */
	n->tx_full = virtio_is_live(d);
	update_watch(n);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static int set_offloads(struct virtio_net *n, unsigned offloads)
{
	if (n->options.offloads && ioctl(n->options.tap, TUNSETOFFLOAD, (long)offloads) < 0)
		return err_sys("TUNSETOFFLOAD 0x%x", offloads);
	return 0;
}

static int net_start(struct virtio_device *d)
{
	struct virtio_net *n = (struct virtio_net *)d;
	unsigned offloads = net_accepted_offloads(n->dev.driver_features);

	int r = set_offloads(n, offloads);
	if (r < 0)
		return r;
	n->rx->mergeable = has_feature(n, VIRTIO_NET_F_MRG_RXBUF);
	n->rx->want = !n->rx->mergeable || (offloads & ~TUN_F_CSUM)
			      ? FRAME_MAX
			      : HEADER + ETHERNET + n->options.mtu;
	n->started = true;
	update_watch(n);
	return 0;
}

static void forget_buffers(struct virtio_net *n)
{
	n->rx->buffers = n->rx->parts = 0;
	n->rx->room = n->rx->kept = 0;
}

static void net_reset(struct virtio_device *d)
{
	struct virtio_net *n = (struct virtio_net *)d;
	uint8_t byte;

	forget_buffers(n);
	n->rx_wait = n->tx_full = false;
	watch_tap(n, 0);
	if (!n->started)
		return;
	n->started = false;
	/*
	 * Drops the frames in the tap, because the kernel made them for the offloads of the former
	 * driver.
	 */
	if (set_offloads(n, 0) < 0)
		err_clear();
	for (int i = 0; i < STALE_MAX && read(n->options.tap, &byte, 1) >= 0; i++)
		;
}

/*
 * Puts the buffers that the device holds back into the queue, so that they count as not taken. This
 * is possible because they are the last buffers that the device has taken, and are in order.
 */
static void net_quiesce(struct virtio_device *d, unsigned index)
{
	struct virtio_net *n = (struct virtio_net *)d;

	if (index != QUEUE_RX)
		return;
	d->queues[QUEUE_RX].next_avail -= (uint16_t)n->rx->buffers;
	forget_buffers(n);
}

static const struct virtio_ops ops = {.serve = net_serve,
	.reset = net_reset,
	.event = net_event,
	.start = net_start,
	.quiesce = net_quiesce,
	.save = virtio_net_save,
	.load = virtio_net_load};

int virtio_net_init(
	struct virtio_net *n, const struct vm_memory *m, const struct virtio_net_options *options)
{
	*n = (struct virtio_net){.options = *options};
	if (options->mtu < VIRTIO_NET_MTU_MIN)
		return err_set(EINVAL, "MTU %u of a network device: expected %d at least",
			options->mtu, VIRTIO_NET_MTU_MIN);
	n->config = (struct virtio_net_space){.status = htole16(VIRTIO_NET_S_LINK_UP),
		.max_virtqueue_pairs = htole16(1),
		.mtu = htole16(options->mtu)};
	memcpy(n->config.mac, options->mac, sizeof(n->config.mac));
	n->dev = (struct virtio_device){.ops = &ops,
		.name = "net",
		.id = VIRTIO_ID_NET,
		.features = 1ULL << VIRTIO_NET_F_MAC | 1ULL << VIRTIO_NET_F_MTU |
			    1ULL << VIRTIO_NET_F_STATUS | 1ULL << VIRTIO_NET_F_MRG_RXBUF |
			    net_offload_features(options->offloads),
		.config = &n->config,
		.config_len = sizeof(n->config),
		.queue_count = 2};
	int r = set_offloads(n, 0);
	if (r < 0)
		return r;
	virtio_init(&n->dev, m);
	n->rx = calloc(1, sizeof(*n->rx));
	n->tx = calloc(1, sizeof(*n->tx));
	n->dev.event_fd = epoll_create1(EPOLL_CLOEXEC);
	r = n->dev.event_fd < 0 ? err_sys("create a network device's epoll descriptor") : 0;
	if (!n->rx || !n->tx)
		r = err_set(ENOMEM, "out of memory");
	if (r < 0) {
		virtio_net_release(n);
		virtio_release(&n->dev);
	}
	return r;
}

void virtio_net_release(struct virtio_net *n)
{
	fd_close(&n->dev.event_fd);
	free(n->rx);
	free(n->tx);
	n->rx = NULL;
	n->tx = NULL;
}
