/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The device writes each request of a transmit queue to the tap with one
 * system call. If the tap is full, the request goes back into the queue until the tap is writable.
 * The receive queues are in net_rx.c, which has a theory of operation of its own.
 *
 * Each turn handles at most as many frames as the queue has entries, and raises one interrupt.
 */
#include "vm/virtio/virtio_net.h"

#include <endian.h>
#include <linux/if_tun.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "vm/virtio/net_internal.h"
#include "vm/virtio/net_offload.h"

/* the most frames that are dropped at a reset; the queue of a tap holds 1000 */
#define STALE_MAX 2048

/*
 * Sets the events of the pair's tap that the device's epoll descriptor reports. Without events the
 * tap is removed from epoll, because an error of the tap would otherwise wake the event loop again
 * and again.
 */
static void watch_tap(struct virtio_net *n, unsigned pair, unsigned events)
{
	struct virtio_net_pair *p = &n->pairs[pair];
	struct epoll_event e = {.events = events, .data.u32 = pair};
	int op = !events ? EPOLL_CTL_DEL : p->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	if (events != p->watched && epoll_ctl(n->dev.event_fd, op, n->options.taps[pair], &e) == 0)
		p->watched = events;
}

void net_update_watch(struct virtio_net *n, unsigned pair)
{
	const struct virtio_net_pair *p = &n->pairs[pair];
	bool live =
		virtio_is_live(&n->dev) && !n->dead && !n->options.in_kernel && pair < n->active;

	/* Frames for a queue that the driver has not made would wake the event loop forever. */
	bool receives = !p->rx_wait && n->dev.queues[net_rx_queue(pair)].ready;

	watch_tap(n, pair, live ? (receives ? EPOLLIN : 0) | (p->tx_full ? EPOLLOUT : 0) : 0);
}

void net_lose_tap(struct virtio_net *n)
{
	n->dead = true;
	n->config.status = 0;
	if (n->dev.signal)
		n->dev.signal(n->dev.transport, VIRTIO_SIGNAL_CONFIG);
}

/* --- The transmit queue: writes the guest's frames to the tap --- */

/*
 * Sends the frame in the request that was last taken from the transmit queue. Returns 1 if the
 * frame was sent or cannot be sent, or 0 if the tap is full.
 */
static int transmit_frame(struct virtio_net *n, unsigned pair)
{
	const struct virtq_chain *c = n->chain;
	ssize_t done = -1;

	if (n->dead || c->read_len == NET_HEADER || c->read_len > NET_FRAME_MAX) {
		n->tx_dropped++;
		return 1;
	}
	do
		done = writev(n->options.taps[pair], c->iov, (int)c->readable);
	while (done < 0 && errno == EINTR);
	if (done < 0 && errno == EAGAIN)
		return 0;
	/*
	 * EBADFD means that the tap is lost. Any other error concerns only this frame (EINVAL: its
	 * header is wrong) or is temporary (EIO: the tap is down).
	 */
	if (done < 0 && errno == EBADFD)
		net_lose_tap(n);
	*(done < 0 ? &n->tx_dropped : &n->tx_frames) += 1;
	return 1;
}

static int serve_tx(struct virtio_net *n, unsigned pair, unsigned budget)
{
	struct virtq *q = &n->dev.queues[net_tx_queue(pair)];
	int r = 0;

	n->pairs[pair].tx_full = false;
	virtq_disarm(q);
	for (; budget > 0; budget--) {
		r = virtq_next(q, n->chain);
		if (r <= 0)
			break;
		if (n->chain->writable > 0 || n->chain->read_len < NET_HEADER) {
			r = err_set(EPROTO,
				"a frame of %llu bytes to send: expected at least %zu of header, "
				"and nothing writable",
				(unsigned long long)n->chain->read_len, NET_HEADER);
			break;
		}
		if (transmit_frame(n, pair) == 0) {
			virtq_unpop(q, 1);
			n->pairs[pair].tx_full = true;
			break;
		}
		virtq_push(q, n->chain->head, 0);
	}
	virtio_signal_queue(&n->dev, net_tx_queue(pair));
	return r < 0 ? r : budget == 0;
}

/* --- The functions of struct virtio_ops, which the transport and the event loop call --- */

static int net_serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	struct virtio_net *n = (struct virtio_net *)d;
	const unsigned pair = index / 2;

	if ((int)index == net_control_queue(n))
		return net_control_serve(n, index, budget);
	if (pair >= n->active || n->options.in_kernel)
		return 0;
	int r = index == net_rx_queue(pair) ? net_rx_serve(n, pair, budget)
					    : serve_tx(n, pair, budget);

	net_update_watch(n, pair);
	return r;
}

/*
 * Finds the pairs for whose tap the device has waited and that may be ready. With only one pair the
 * function does not ask epoll, because the event can only concern that pair.
 */
static int ready_pairs(struct virtio_net *n, struct epoll_event ret[VIRTIO_NET_PAIRS_MAX])
{
	pthread_mutex_lock(&n->dev.lock);
	/* Stops watching the taps if another thread has stopped the device since the event. */
	for (unsigned i = 0; i < n->options.pairs; i++)
		net_update_watch(n, i);
	int count = n->active;
	if (n->active == 1)
		ret[0] = (struct epoll_event){.events = n->pairs[0].watched, .data.u32 = 0};
	else
		count = epoll_wait(n->dev.event_fd, ret, VIRTIO_NET_PAIRS_MAX, 0);
	pthread_mutex_unlock(&n->dev.lock);
	return count;
}

static void serve_ready(struct virtio_net *n, unsigned pair, unsigned events)
{
	/*
	 * The result of virtio_kick() for received frames is not used, because frames that are left
	 * after this turn are still in the tap. poll(2) then reports the tap as readable, and the
	 * event loop calls net_event() once more.
	 */
	if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
		(void)virtio_kick(&n->dev, net_rx_queue(pair));
	if (!(events & EPOLLOUT) || virtio_kick(&n->dev, net_tx_queue(pair)) == 0)
		return;
	pthread_mutex_lock(&n->dev.lock);
	/* The tap is full. The device goes on with the requests when the tap is writable. */
	n->pairs[pair].tx_full = virtio_is_live(&n->dev);
	net_update_watch(n, pair);
	pthread_mutex_unlock(&n->dev.lock);
}

static int net_event(struct virtio_device *d)
{
	struct virtio_net *n = (struct virtio_net *)d;
	struct epoll_event events[VIRTIO_NET_PAIRS_MAX];
	int count = ready_pairs(n, events);

	for (int i = 0; i < count; i++)
		serve_ready(n, events[i].data.u32, events[i].events);
	return 0;
}

static int set_offloads(struct virtio_net *n, unsigned offloads)
{
	if (n->options.offloads && ioctl(n->options.taps[0], TUNSETOFFLOAD, (long)offloads) < 0)
		return err_sys("TUNSETOFFLOAD 0x%x", offloads);
	return 0;
}

/* Makes vhost-net serve the pairs that the driver uses. */
static int start_in_kernel(struct virtio_net *n)
{
	int r = 0;

	for (unsigned i = 0; r >= 0 && n->options.in_kernel && i < n->active; i++)
		r = net_vhost_start(n, i);
	return r;
}

static int net_start(struct virtio_device *d)
{
	struct virtio_net *n = (struct virtio_net *)d;
	unsigned offloads = net_accepted_offloads(n->dev.driver_features);

	/*
	 * Without VIRTIO_NET_F_MQ the third queue is the control queue, and not a receive queue
	 * (virtio 1.2, 5.1.2). But the kicks of the third queue go to vhost-net's descriptor, so no
	 * thread of this process would see them.
	 */
	if (n->options.in_kernel && net_control_queue(n) == 2 && n->options.pairs > 1)
		return err_set(ENOTSUP, "the driver has accepted VIRTIO_NET_F_CTRL_VQ without "
					"VIRTIO_NET_F_MQ, which vhost-net cannot serve");
	int r = set_offloads(n, offloads);
	if (r < 0)
		return r;
	n->started = true;
	for (unsigned i = 0; i < n->options.pairs; i++) {
		net_rx_start(n, n->pairs[i].rx, offloads);
		net_update_watch(n, i);
	}
	if (!n->loaded)
		r = start_in_kernel(n);
	n->loaded = false;
	return r;
}

static void net_go_on(struct virtio_device *d)
{
	struct virtio_net *n = (struct virtio_net *)d;

	if (virtio_is_live(d) && start_in_kernel(n) < 0)
		virtio_needs_reset(d);
}

static void net_reset(struct virtio_device *d)
{
	struct virtio_net *n = (struct virtio_net *)d;
	uint8_t byte;

	for (unsigned i = 0; i < n->options.pairs; i++) {
		struct virtio_net_pair *p = &n->pairs[i];

		net_vhost_stop(n, net_rx_queue(i));
		net_vhost_stop(n, net_tx_queue(i));
		net_rx_forget(p->rx);
		p->rx_wait = p->tx_full = false;
		watch_tap(n, i, 0);
	}
	n->loaded = false;
	if (!n->started)
		return;
	n->started = false;
	/*
	 * Drops the frames in the tap, because the kernel made them for the offloads of the former
	 * driver. The kernel itself drops those in the pairs that are detached.
	 */
	if (set_offloads(n, 0) < 0 || net_set_pairs(n, 1) < 0)
		err_clear();
	for (int i = 0; i < STALE_MAX && read(n->options.taps[0], &byte, 1) >= 0; i++)
		;
}

static void net_quiesce(struct virtio_device *d, unsigned index)
{
	struct virtio_net *n = (struct virtio_net *)d;
	const unsigned pair = index / 2;

	if ((int)index == net_control_queue(n) || pair >= n->options.pairs)
		return;
	net_vhost_stop(n, index);
	if (index == net_rx_queue(pair))
		net_rx_give_back(n, pair);
}

static const struct virtio_ops ops = {.serve = net_serve,
	.reset = net_reset,
	.event = net_event,
	.start = net_start,
	.quiesce = net_quiesce,
	.save = virtio_net_save,
	.load = virtio_net_load,
	.go_on = net_go_on};

static int check_options(const struct virtio_net_options *o)
{
	if (o->mtu < VIRTIO_NET_MTU_MIN)
		return err_set(EINVAL, "MTU %u of a network device: expected %d at least", o->mtu,
			VIRTIO_NET_MTU_MIN);
	if (o->pairs > VIRTIO_NET_PAIRS_MAX)
		return err_set(EINVAL,
			"%u pairs of queues of a network device: expected %d at most", o->pairs,
			VIRTIO_NET_PAIRS_MAX);
	return 0;
}

/* Allocates what the device needs, and detaches all pairs but the first. */
static int make_pairs(struct virtio_net *n)
{
	int r = 0;

	n->chain = calloc(1, sizeof(*n->chain));
	n->dev.event_fd = epoll_create1(EPOLL_CLOEXEC);
	if (n->dev.event_fd < 0)
		r = err_sys("create a network device's epoll descriptor");
	else if (!n->chain)
		r = err_set(ENOMEM, "out of memory");
	for (unsigned i = 0; r >= 0 && i < n->options.pairs; i++)
		r = net_rx_init(&n->pairs[i].rx);
	n->active = n->options.pairs;
	return r < 0 ? r : net_set_pairs(n, 1);
}

int virtio_net_init(
	struct virtio_net *n, const struct vm_memory *m, const struct virtio_net_options *options)
{
	*n = (struct virtio_net){.options = *options};
	int r = check_options(options);
	if (r < 0)
		return r;
	if (n->options.pairs == 0)
		n->options.pairs = 1;
	const unsigned pairs = n->options.pairs;
	n->config = (struct virtio_net_space){.status = htole16(VIRTIO_NET_S_LINK_UP),
		.max_virtqueue_pairs = htole16((uint16_t)pairs),
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
		.queue_count = 2 * pairs + (pairs > 1),
		.remote_queues = options->in_kernel ? 2 * pairs : 0};
	if (pairs > 1)
		n->dev.features |= 1ULL << VIRTIO_NET_F_MQ | 1ULL << VIRTIO_NET_F_CTRL_VQ;
	r = set_offloads(n, 0);
	if (r < 0)
		return r;
	virtio_init(&n->dev, m);
	r = make_pairs(n);
	if (r < 0) {
		virtio_net_release(n);
		virtio_release(&n->dev);
	}
	return r;
}

void virtio_net_release(struct virtio_net *n)
{
	fd_close(&n->dev.event_fd);
	free(n->chain);
	n->chain = NULL;
	for (unsigned i = 0; i < VIRTIO_NET_PAIRS_MAX; i++) {
		free(n->pairs[i].rx);
		n->pairs[i].rx = NULL;
	}
}
