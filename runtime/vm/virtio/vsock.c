/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. At each event (a kick, or a descriptor that is ready) run_queues() does the
 * same work: it takes the guest's packets, then fills the guest's receive buffers, first with reset
 * packets, then with the packets and data of one connection after the other.
 *
 * The device reads nothing from a descriptor before there is a receive buffer and credit for the
 * data. If the guest has given no buffer, virtq_arm() asks for a kick when the guest gives the next
 * one. An answer that waits is a bit in its connection, so it takes no memory. Answers without a
 * connection wait in `resets`. If `resets` is full, the device takes no packet until the guest has
 * given buffers (virtio 1.2, 5.10.6.1.1).
 */
#include "vm/virtio/vsock.h"

#include <endian.h>
#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "base/clock.h"

#define EVENTS_MAX 64
#define F_STREAM 0 /* VIRTIO_VSOCK_F_STREAM, which Linux's header does not define */

/* --- The transmit queue: handles the packets that the guest sends --- */

static void refuse_packet(struct virtio_vsock *v, const struct vsock_packet *p)
{
	if (p->op == VIRTIO_VSOCK_OP_RST || v->ending)
		return;
	v->resets[v->reset_count++] =
		(struct vsock_reset){p->dst_cid, p->dst_port, p->src_port, p->type};
}

static int accept_conn(struct virtio_vsock *v, const struct vsock_packet *p)
{
	unsigned use = VSOCK_BOTH;
	struct vsock_conn *c;

	if (v->count == VSOCK_CONNS_MAX || v->ending)
		return -EBUSY;
	int fd = v->options.connect(v->options.ctx, p->src_port, p->dst_port, &use);
	if (fd < 0)
		return fd;
	int r = vsock_add_conn(v, fd, use, &c);
	if (r < 0) {
		if (v->options.closed)
			v->options.closed(v->options.ctx, p->src_port, p->dst_port);
		return r;
	}
	c->guest_port = p->src_port;
	c->port = p->dst_port;
	c->peer_size = p->buf_alloc;
	c->peer_done = p->fwd_cnt;
	vsock_conn_start(c, VSOCK_CONNECTED);
	return 0;
}

static void receive_packet(struct virtio_vsock *v, const struct vsock_packet *p)
{
	/*
	 * Drops packets whose source is not the guest's CID, because only the guest can be at the
	 * other end of the device's queues.
	 */
	if (p->src_cid != v->options.cid)
		return;
	if (p->dst_cid != VSOCK_HOST_CID || p->type != VIRTIO_VSOCK_TYPE_STREAM) {
		refuse_packet(v, p);
		return;
	}
	struct vsock_conn *c = vsock_find_conn(v, p->src_port, p->dst_port);
	if (c) {
		vsock_conn_receive(c, p, &v->chain, v->part);
		vsock_settle_conn(v, c);
	} else if (p->op != VIRTIO_VSOCK_OP_REQUEST || accept_conn(v, p) < 0) {
		refuse_packet(v, p);
	}
}

/*
 * Handles the packet in v->chain. Checks the packet's length against its buffer (CVE-2019-18960).
 */
static int take_packet(struct virtio_vsock *v)
{
	struct virtio_vsock_hdr h;

	if (v->chain.writable > 0 || v->chain.read_len < VSOCK_HEADER)
		return err_set(EPROTO,
			"a packet of %" PRIu64 " bytes to read and %" PRIu64
			" to write: expected %u or more to read, and none to write",
			v->chain.read_len, v->chain.write_len, VSOCK_HEADER);
	virtq_read(&v->chain, 0, &h, VSOCK_HEADER);
	struct vsock_packet p = {.src_cid = le64toh(h.src_cid),
		.dst_cid = le64toh(h.dst_cid),
		.src_port = le32toh(h.src_port),
		.dst_port = le32toh(h.dst_port),
		.len = le32toh(h.len),
		.type = le16toh(h.type),
		.op = le16toh(h.op),
		.flags = le32toh(h.flags),
		.buf_alloc = le32toh(h.buf_alloc),
		.fwd_cnt = le32toh(h.fwd_cnt)};
	if (p.len > v->chain.read_len - VSOCK_HEADER)
		return err_set(EPROTO,
			"a packet that says it has %" PRIu32
			" bytes of data: expected at most those of its buffer, %" PRIu64,
			p.len, v->chain.read_len - VSOCK_HEADER);
	receive_packet(v, &p);
	return 0;
}

/*
 * Handles the guest's packets. Returns 0 if no packet is left or if the rest must wait for room in
 * `resets`, or 1 if the limit of packets for one call was reached.
 */
static int take_packets(struct virtio_vsock *v)
{
	struct virtq *q = &v->dev.queues[VSOCK_QUEUE_TX];
	int budget = q->size;

	for (; budget > 0 && v->reset_count < VSOCK_RESETS_MAX; budget--) {
		int r = virtq_next(q, &v->chain);
		if (r == 0)
			break;
		if (r > 0)
			r = take_packet(v);
		if (r < 0)
			return r;
		virtq_push(q, v->chain.head, 0);
	}
	virtio_signal_queue(&v->dev, VSOCK_QUEUE_TX);
	return budget == 0 && q->size > 0;
}

/* --- The functions of struct virtio_ops, and the work that they do at each event --- */

/*
 * Tells the guest after a load from a snapshot that all connections have ended. The device takes no
 * packet before the guest has given a buffer for this event, because the packets may belong to
 * former connections. Returns 1 if the guest knows it or need not be told, 0 if the guest has given
 * no buffer, or -errno.
 */
static int tell_restored(struct virtio_vsock *v)
{
	const struct virtio_vsock_event e = {htole32(VIRTIO_VSOCK_EVENT_TRANSPORT_RESET)};
	struct virtq *q = &v->dev.queues[VSOCK_QUEUE_EVENT];

	if (!v->restored)
		return 1;
	int r = virtq_next(q, &v->chain);
	if (r > 0 && (v->chain.readable > 0 || v->chain.write_len < sizeof(e)))
		r = err_set(EPROTO, "a buffer for events without room: expected %zu bytes to write",
			sizeof(e));
	if (r <= 0)
		return r;
	virtq_write(&v->chain, 0, &e, sizeof(e));
	virtq_push(q, v->chain.head, sizeof(e));
	virtio_signal_queue(&v->dev, VSOCK_QUEUE_EVENT);
	v->restored = false;
	return 1;
}

static void run_queues(struct virtio_vsock *v)
{
	unsigned index = VSOCK_QUEUE_EVENT;
	bool blocked = false;

	if (!virtio_is_live(&v->dev))
		return;
	int tx = tell_restored(v), rx = 0;
	if (tx == 0)
		return;
	if (tx > 0) {
		index = VSOCK_QUEUE_TX;
		tx = take_packets(v);
	}
	if (tx >= 0) {
		blocked = v->reset_count == VSOCK_RESETS_MAX;
		index = VSOCK_QUEUE_RX;
		rx = vsock_fill_rx(v);
	}
	if (tx < 0 || rx < 0) {
		err_ctx(-EPROTO, "%s: queue %u", v->dev.name, index);
		virtio_needs_reset(&v->dev);
	} else if (tx > 0 || rx > 0 || (blocked && v->reset_count < VSOCK_RESETS_MAX)) {
		eventfd_write(v->wake, 1);
	}
}

static int vsock_serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	run_queues((struct virtio_vsock *)d);
	/*
	 * If the guest has more requests, run_queues() has written the eventfd `wake`, so the event
	 * loop calls vsock_event().
	 */
	return 0;
}

static int vsock_event(struct virtio_device *d)
{
	struct virtio_vsock *v = (struct virtio_vsock *)d;
	struct epoll_event events[EVENTS_MAX];
	eventfd_t count;

	pthread_mutex_lock(&d->lock);
	/*
	 * The lock is held from epoll_wait() until the events are handled, so no connection is
	 * freed between its event and the use of it.
	 */
	int n = epoll_wait(d->event_fd, events, EVENTS_MAX, 0);
	for (int i = 0; i < n; i++) {
		struct vsock_conn *c = events[i].data.ptr;

		if (c) {
			vsock_conn_event(c, events[i].events);
			vsock_settle_conn(v, c);
		} else {
			(void)eventfd_read(v->wake, &count);
		}
	}
	run_queues(v);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static void vsock_reset(struct virtio_device *d)
{
	struct virtio_vsock *v = (struct virtio_vsock *)d;

	/*
	 * Handles the packets that are still in the queue, because the guest may have sent data
	 * right before the reset with a kick that is not served yet.
	 */
	v->reset_count = 0;
	v->restored = false;
	v->ending = true;
	if (virtio_is_live(d))
		(void)take_packets(v);
	v->ending = false;
	for (unsigned i = v->count; i-- > 0;) {
		struct vsock_conn *c = v->conns[i];

		vsock_conn_forget(c);
		vsock_settle_conn(v, c);
	}
}

static void vsock_quiesce(struct virtio_device *d, unsigned index)
{
	struct virtio_vsock *v = (struct virtio_vsock *)d;

	/*
	 * Completes the packets of the queue that is about to stop, so that the device holds none
	 * of its requests. Keeps the connections, because the guest may continue later.
	 */
	if (index == VSOCK_QUEUE_TX && virtio_is_live(d) && take_packets(v) < 0)
		virtio_needs_reset(d);
}

static int vsock_save(struct virtio_device *d, struct snapshot_writer *w)
{
	/*
	 * A snapshot has no connections: the device tells the guest after the load that all have
	 * ended.
	 */
	return 0;
}

static int vsock_load(struct virtio_device *d, struct snapshot_part *p)
{
	struct virtio_vsock *v = (struct virtio_vsock *)d;

	if (virtio_is_live(d) && d->queue_count <= VSOCK_QUEUE_EVENT)
		return err_set(ENOTSUP, "without a queue for events the guest cannot be told that "
					"its connections have ended");
	v->restored = virtio_is_live(d);
	return 0;
}

void virtio_vsock_restored(struct virtio_vsock *v)
{
	pthread_mutex_lock(&v->dev.lock);
	v->restored = true;
	pthread_mutex_unlock(&v->dev.lock);
}

static const struct virtio_ops ops = {.serve = vsock_serve,
	.reset = vsock_reset,
	.event = vsock_event,
	.quiesce = vsock_quiesce,
	.save = vsock_save,
	.load = vsock_load};

static int open_events(struct virtio_vsock *v)
{
	struct epoll_event e = {.events = EPOLLIN};

	v->dev.event_fd = epoll_create1(EPOLL_CLOEXEC);
	v->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (v->dev.event_fd < 0 || v->wake < 0 ||
		epoll_ctl(v->dev.event_fd, EPOLL_CTL_ADD, v->wake, &e) < 0)
		return err_sys("vsock: create its event descriptors");
	return 0;
}

int virtio_vsock_init(
	struct virtio_vsock *v, const struct vm_memory *m, const struct virtio_vsock_options *o)
{
	if (o->cid <= VSOCK_HOST_CID || o->cid >= UINT32_MAX)
		return err_set(EINVAL, "vsock CID %" PRIu64 ": expected 3 to %" PRIu32, o->cid,
			UINT32_MAX - 1);
	*v = (struct virtio_vsock){.options = *o,
		.config.guest_cid = htole64(o->cid),
		.next_port = VSOCK_DIAL_PORT_FIRST,
		.wake = -EBADF};
	v->dev = (struct virtio_device){.ops = &ops,
		.name = "vsock",
		.id = VIRTIO_ID_VSOCK,
		.features = 1ULL << F_STREAM,
		.config = &v->config,
		.config_len = sizeof(v->config),
		.queue_count = o->event_queue ? 3 : 2};
	virtio_init(&v->dev, m);
	int r = open_events(v);
	if (r < 0) {
		virtio_vsock_release(v);
		virtio_release(&v->dev);
	}
	return r;
}

void virtio_vsock_release(struct virtio_vsock *v)
{
	while (v->count > 0) {
		struct vsock_conn *c = v->conns[v->count - 1];

		vsock_conn_forget(c);
		vsock_stream_end(&c->stream, VSOCK_BOTH);
		vsock_settle_conn(v, c);
	}
	fd_close(&v->dev.event_fd);
	fd_close(&v->wake);
}

static int dial_port(struct virtio_vsock *v, uint32_t guest_port, int fd, unsigned use)
{
	_cleanup_fd_ int mine = fd;
	struct vsock_conn *c;
	uint32_t port;

	if (!virtio_is_live(&v->dev))
		return err_set(ENOTCONN, "vsock port %" PRIu32 ": the guest's driver is not ready",
			guest_port);
	if (v->count == VSOCK_CONNS_MAX)
		return err_set(EBUSY,
			"vsock port %" PRIu32 ": %u connections are open, which is the limit",
			guest_port, VSOCK_CONNS_MAX);
	do {
		port = v->next_port;
		v->next_port = port == VSOCK_DIAL_PORT_LAST ? VSOCK_DIAL_PORT_FIRST : port + 1;
	} while (vsock_find_conn(v, guest_port, port));
	int r = vsock_add_conn(v, take_fd(&mine), use, &c);
	if (r < 0)
		return err_ctx(r, "vsock port %" PRIu32, guest_port);
	c->guest_port = guest_port;
	c->port = port;
	vsock_conn_start(c, VSOCK_DIALED);
	/* wakes the thread that serves the device, because that thread makes the callbacks */
	eventfd_write(v->wake, 1);
	return (int)port;
}

int virtio_vsock_dial(struct virtio_vsock *v, uint32_t guest_port, int fd, unsigned use)
{
	pthread_mutex_lock(&v->dev.lock);
	int r = dial_port(v, guest_port, fd, use);
	pthread_mutex_unlock(&v->dev.lock);
	return r;
}

int virtio_vsock_progress(
	struct virtio_vsock *v, uint32_t port, uint32_t *ret_written, uint32_t *ret_kept)
{
	int r = -ENOENT;

	pthread_mutex_lock(&v->dev.lock);
	for (unsigned i = 0; i < v->count && r < 0; i++) {
		const struct vsock_conn *c = v->conns[i];
		if (c->port != port || c->stream.fd < 0)
			continue;
		*ret_written = c->done;
		*ret_kept = c->len;
		r = 0;
	}
	pthread_mutex_unlock(&v->dev.lock);
	return r;
}

void virtio_vsock_hold(struct virtio_vsock *v, bool held, uint32_t spared)
{
	pthread_mutex_lock(&v->dev.lock);
	v->held = held;
	v->spared = spared;
	eventfd_write(v->wake, 1);
	pthread_mutex_unlock(&v->dev.lock);
}

static bool is_pending(struct virtio_vsock *v)
{
	bool pending = false;

	pthread_mutex_lock(&v->dev.lock);
	for (unsigned i = 0; i < v->count; i++)
		pending = pending || vsock_conn_is_pending(v->conns[i]);
	pthread_mutex_unlock(&v->dev.lock);
	return pending;
}

int virtio_vsock_drain(struct virtio_vsock *v, int timeout_ms)
{
	int64_t end = clock_ms() + timeout_ms;
	struct pollfd p[2] = {{v->dev.event_fd, POLLIN, 0}};

	for (;;) {
		vsock_event(&v->dev);
		/*
		 * Waits for the eventfd `wake` too, which is readable if there were more packets
		 * than run_queues() handles in one call.
		 */
		p[1] = (struct pollfd){v->wake, POLLIN, 0};
		if (!is_pending(v) && poll(&p[1], 1, 0) == 0)
			return 0;
		int64_t left = end - clock_ms();
		if (timeout_ms >= 0 && left <= 0)
			return err_set(ETIMEDOUT,
				"vsock: a reader has not taken the guest's data within %d ms",
				timeout_ms);
		if (poll(p, 1, timeout_ms < 0 ? -1 : (int)left) < 0 && errno != EINTR)
			return err_sys("vsock: wait for readers of the guest's data");
	}
}
