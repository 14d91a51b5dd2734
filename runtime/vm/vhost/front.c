/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The socket is used by the thread that holds the device's lock: a vCPU's thread that starts or
 * stops the queues, or the event loop. After each message the thread waits for its answer. A
 * message to which vhost-user defines no reply is acknowledged (REPLY_ACK), if the back end
 * supports that. So no answer is due between two calls, and a socket that is readable then means
 * that the back end has hung up or breaks the protocol, which front_event() handles. Only
 * front_event() changes event_fd and calls `lost`, because it runs in the thread that polls.
 * Another thread that finds a failure shuts the socket down, which wakes the polling thread.
 *
 * A back end that has hung up may come back (`gone` is set). In that case the polling thread
 * requests a new connection (`waiting` is set) and waits for it. On the new connection the queues
 * start with the same messages as on the first one, but continue at the request where they stopped.
 *
 * The messages give ring addresses as "user addresses". These are guest addresses plus an offset,
 * because the back end does not need to know where the monitor has mapped guest memory.
 */
#include "vm/vhost/front.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "vm/vhost/front_messages.h"

#define BIT(n) (UINT64_C(1) << (n))
#define USER_BASE UINT64_C(0x100000000000)
/*
 * The features that a back end can implement for any kind of device without help from this process.
 */
#define CARRIED VIRTIO_COMMON_FEATURES

/*
 * Records that the back end is lost, with the error r and its message. Returns 0 if a new
 * connection may replace it, otherwise r.
 */
static int lose_back_end(struct vhost_user *v, int r)
{
	if (v->failed)
		return r;
	if (v->reconnect && (r == -EPIPE || r == -ECONNRESET)) {
		v->gone = true;
		(void)shutdown(v->sock, SHUT_RDWR);
		return 0;
	}
	r = err_ctx(r, "%s", v->peer);
	snprintf(v->why, sizeof(v->why), "%s", err_msg());
	v->failed = true;
	/*
	 * Shuts the socket down to wake the thread that polls it, and to tell the back end that it
	 * must stop.
	 */
	(void)shutdown(v->sock, SHUT_RDWR);
	return r;
}

/* Returns the features that the driver has accepted and that the back end has to know. */
static uint64_t accepted_features(const struct vhost_user *v)
{
	/* A shadow's rings have neither event indices nor indirect tables. */
	const uint64_t ours =
		v->shadow ? BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VIRTIO_RING_F_INDIRECT_DESC) : 0;

	return v->dev.driver_features & ~((v->own & ~v->offered) | ours);
}

static int share_memory(const struct vhost_user *v)
{
	const struct vm_memory *memory = v->shadow ? &v->shadow->memory : v->dev.memory;
	struct vhost_front_message m = {.h = {VHOST_USER_SET_MEM_TABLE, 0, 0}};
	int fds[VHOST_USER_REGIONS_MAX];

	for (unsigned i = 0; i < memory->count; i++) {
		const struct vm_memory_region *g = &memory->regions[i];

		m.p.memory.regions[i] = (struct vhost_user_region){
			g->guest, g->size, USER_BASE + g->guest, g->offset};
		fds[i] = memory->fd;
	}
	m.p.memory.count = memory->count;
	m.h.size = (uint32_t)(8 + memory->count * sizeof(m.p.memory.regions[0]));
	return vhost_front_tell(v, &m, fds, memory->count);
}

/*
 * Sets up the shared memory in which the back end records the requests under way (INFLIGHT). At
 * first the back end makes this memory. After a reconnection this process passes the memory of the
 * former back end to the new back end.
 */
static int share_inflight(struct vhost_user *v)
{
	struct vhost_front_message m = {
		.h = {VHOST_USER_GET_INFLIGHT_FD, VHOST_USER_VERSION, sizeof(m.p.inflight)},
		.p.inflight.queues = (uint16_t)v->dev.queue_count};

	for (uint32_t i = 0; i < v->dev.queue_count; i++)
		if (v->dev.queues[i].size > m.p.inflight.queue_size)
			m.p.inflight.queue_size = v->dev.queues[i].size;
	if (v->inflight < 0) {
		int r = vhost_front_send(v, &m, NULL, 0);
		if (r >= 0)
			r = vhost_front_receive(v, &m, sizeof(m.p.inflight), &v->inflight);
		if (r >= 0 && v->inflight < 0)
			r = err_set(EPROTO, "no descriptor in the answer to GET_INFLIGHT_FD");
		if (r < 0)
			return r;
		v->inflight_at = m.p.inflight;
	}
	m.h = (struct vhost_user_header){VHOST_USER_SET_INFLIGHT_FD, 0, sizeof(m.p.inflight)};
	m.p.inflight = v->inflight_at;
	return vhost_front_tell(v, &m, &v->inflight, 1);
}

/* What the back end gets for a queue: the driver's rings, or those of the shadow. */
struct ring {
	uint64_t desc, used, avail;
	uint16_t size, base;
	int kick, call;
};

static struct ring choose_ring(const struct vhost_user *v, uint32_t index, uint16_t done)
{
	const struct virtq *q = &v->dev.queues[index];

	if (!v->shadow)
		return (struct ring){q->desc_at, q->used_at, q->avail_at, q->size, done,
			v->dev.kicks[index], v->dev.call};
	const struct shadow_queue *s = &v->shadow->queues[index];
	return (struct ring){
		s->desc_at, s->used_at, s->avail_at, SHADOW_DESCRIPTORS, 0, s->kick, s->call};
}

/*
 * Starts queue `index` in the back end. `done` is the number of requests that the driver has
 * already got back from this queue.
 */
static int start_queue(struct vhost_user *v, uint32_t index, uint16_t done)
{
	const struct ring ring = choose_ring(v, index, done);
	struct vhost_front_message addr = {.h = {VHOST_USER_SET_VRING_ADDR, 0, sizeof(addr.p.addr)},
		.p.addr = {.index = index,
			.desc = USER_BASE + ring.desc,
			.used = USER_BASE + ring.used,
			.avail = USER_BASE + ring.avail}};

	if (v->shadow)
		vhost_shadow_start(v->shadow, index, &v->dev.queues[index]);
	int r = vhost_front_tell_state(v, VHOST_USER_SET_VRING_NUM, index, ring.size);

	if (r >= 0)
		r = vhost_front_tell_state(v, VHOST_USER_SET_VRING_BASE, index, ring.base);
	if (r >= 0)
		r = vhost_front_tell(v, &addr, NULL, 0);
	if (r >= 0)
		r = vhost_front_tell_u64(v, VHOST_USER_SET_VRING_CALL, index, ring.call);
	/*
	 * Sets `started` before the next message is sent, because the back end may serve the queue
	 * from then on. So front_stop() must stop the queue even if that message fails.
	 */
	v->started[index] = r >= 0;
	if (r >= 0)
		r = vhost_front_tell_u64(v, VHOST_USER_SET_VRING_KICK, index, ring.kick);
	if (r >= 0 && (v->offered & BIT(VHOST_USER_F_PROTOCOL_FEATURES)))
		r = vhost_front_tell_state(v, VHOST_USER_SET_VRING_ENABLE, index, 1);
	return r < 0 ? err_ctx(r, "queue %" PRIu32, index) : 0;
}

static int start_queues(struct vhost_user *v)
{
	const struct virtio_device *d = &v->dev;
	const bool again = v->inflight >= 0;
	int r = vhost_front_tell_u64(v, VHOST_USER_SET_FEATURES,
		accepted_features(v) | (v->offered & BIT(VHOST_USER_F_PROTOCOL_FEATURES)), -EBADF);

	if (r >= 0)
		r = share_memory(v);
	if (r >= 0 && v->reconnect)
		r = share_inflight(v);
	for (uint32_t i = 0; r >= 0 && i < d->queue_count; i++)
		if (d->queues[i].ready)
			r = start_queue(v, i,
				v->loaded ? d->queues[i].next_avail
				: again   ? virtq_done(&d->queues[i])
					  : 0);
	v->loaded = false;
	return r;
}

static int front_start(struct virtio_device *d)
{
	struct vhost_user *v = (struct vhost_user *)d;

	if (v->failed)
		return err_set(EPIPE, "%s", v->why);
	/*
	 * Closes the memory in which the former back end recorded its requests under way, because
	 * the driver's new rings have no such requests.
	 */
	fd_close(&v->inflight);
	if (v->gone)
		return 0;
	vhost_front_begin(v);
	int r = start_queues(v);
	return r < 0 ? lose_back_end(v, r) : 0;
}

/*
 * Stops a queue. *ret_base is the index of the next request that the back end would have served.
 * After a successful call the back end does not use the driver's rings any more.
 */
static int stop_queue(struct vhost_user *v, uint32_t index, uint16_t *ret_base)
{
	struct vhost_front_message m = {
		.h = {VHOST_USER_GET_VRING_BASE, 0, sizeof(m.p.state)}, .p.state.index = index};

	if (!v->started[index])
		return 0;
	v->started[index] = false;
	if (v->failed || v->gone)
		return 0;
	int r = vhost_front_ask(v, &m, sizeof(m.p.state));
	if (r >= 0 && m.p.state.index != index)
		r = err_set(EPROTO,
			"GET_VRING_BASE of queue %" PRIu32 " answers for queue %" PRIu32, index,
			m.p.state.index);
	if (r >= 0 && ret_base)
		*ret_base = (uint16_t)m.p.state.num;
	return r < 0 ? lose_back_end(v, r) : 0;
}

static void front_stop(struct virtio_device *d)
{
	struct vhost_user *v = (struct vhost_user *)d;

	vhost_front_begin(v);
	v->loaded = false;
	for (uint32_t i = 0; i < d->queue_count; i++)
		(void)!stop_queue(v, i, NULL);
}

static void front_configure(
	struct virtio_device *d, uint32_t offset, const void *data, unsigned len)
{
	struct vhost_user *v = (struct vhost_user *)d;
	struct vhost_front_message m = {
		.h = {VHOST_USER_SET_CONFIG, 0, VHOST_USER_CONFIG_HEAD + len},
		.p.config = {.offset = offset, .size = len}};

	if (d->config != v->config || v->failed || v->gone || len > sizeof(uint64_t))
		return;
	vhost_front_begin(v);
	memcpy(m.p.config.data, data, len);
	int r = vhost_front_tell(v, &m, NULL, 0);
	if (r < 0) {
		(void)lose_back_end(v, r);
		return;
	}
	memcpy(v->config + offset, data, len);
}

/*
 * Handles a readable socket at a time when no answer is due: the back end has hung up or breaks the
 * protocol.
 */
static void check_idle_socket(struct vhost_user *v)
{
	char byte;
	ssize_t n = recv(v->sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		/*
		 * Another thread has read what made the socket readable: the answer to its own
		 * message.
		 */
		return;
	(void)lose_back_end(
		v, n > 0 ? err_set(EPROTO, "it has sent a message that was not requested")
			 : err_set(EPIPE, "it has hung up"));
}

static int ask_for_connection(struct vhost_user *v)
{
	for (uint32_t i = 0; i < v->dev.queue_count; i++)
		v->started[i] = false;
	v->dev.event_fd = v->reconnect;
	v->waiting = true;
	if (send(v->reconnect, "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) != 1)
		return err_sys("ask for a new connection");
	return 0;
}

/*
 * Replaces the old connection by the new one, under the same descriptor number, because the caller
 * of vhost_user_init() knows the socket by this number.
 */
static int take_connection(struct vhost_user *v)
{
	_cleanup_fd_ int fd = -EBADF;
	char byte;

	if (fd_recv(v->reconnect, &byte, 1, &fd) < 0)
		return err_ctx(-EIO, "wait for a new connection");
	if (fd < 0)
		return err_set(EHOSTDOWN, "it has hung up, and did not come back in time");
	return dup3(fd, v->sock, O_CLOEXEC) < 0 ? err_sys("take the new connection") : 0;
}

static int resume_connection(struct vhost_user *v)
{
	const struct virtio_device *d = &v->dev;
	const struct vhost_user_options o = {.queue_count = d->queue_count,
		.config = d->config == v->config ? NULL : d->config,
		.config_len = d->config_len,
		.reconnect = v->reconnect};
	uint8_t config[sizeof(v->config)];
	int r = take_connection(v);

	if (r < 0)
		return r;
	v->waiting = false;
	memcpy(config, v->config, sizeof(config));
	vhost_front_begin(v);
	r = vhost_front_negotiate(v, &o);
	if (r >= 0 && (accepted_features(v) & ~v->offered))
		r = err_set(EPROTO, "it came back without the features 0x%" PRIx64,
			accepted_features(v) & ~v->offered);
	if (r >= 0 && memcmp(config, v->config, sizeof(config)) != 0)
		r = err_set(EPROTO,
			"it came back with another configuration, so it may have another disk");
	if (r >= 0 && virtio_is_live(d))
		r = start_queues(v);
	if (r >= 0) {
		v->gone = false;
		v->dev.event_fd = v->sock;
		/*
		 * Raises an interrupt, because the old back end may have ended after it completed a
		 * request and before it raised the interrupt for it.
		 */
		eventfd_write(d->call, 1);
	}
	return r;
}

static int front_event(struct virtio_device *d)
{
	struct vhost_user *v = (struct vhost_user *)d;
	char why[sizeof(v->why)];

	pthread_mutex_lock(&d->lock);
	if (v->shadow)
		vhost_shadow_event(v->shadow, d, v->started);
	if (!v->failed && !v->gone)
		check_idle_socket(v);
	else if (!v->failed && v->waiting) {
		int r = resume_connection(v);
		if (r < 0)
			(void)lose_back_end(v, r);
	}
	if (!v->failed && v->gone && !v->waiting) {
		int r = ask_for_connection(v);
		if (r < 0)
			(void)lose_back_end(v, r);
	}
	if (!v->failed) {
		pthread_mutex_unlock(&d->lock);
		return 0;
	}
	d->event_fd = -EBADF;
	snprintf(why, sizeof(why), "%s", v->why);
	err_set(EPIPE, "%s: %s", d->name, why);
	virtio_needs_reset(d);
	pthread_mutex_unlock(&d->lock);
	if (v->lost)
		v->lost(v->lost_ctx, why);
	return 0;
}

static int front_serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	struct vhost_user *v = (struct vhost_user *)d;

	/* Without a shadow the back end itself serves the queues. */
	return v->shadow && v->started[index]
		       ? vhost_shadow_forward(v->shadow, index, &d->queues[index], budget)
		       : 0;
}

/* --- Snapshots: stops the queues and moves the back end's state --- */

/*
 * Stops the queue in the back end, and stores the index of the request at which a back end has to
 * continue.
 */
static void front_quiesce(struct virtio_device *d, unsigned index)
{
	struct vhost_user *v = (struct vhost_user *)d;

	struct virtq *q = &d->queues[index];
	const bool shadow = v->shadow && v->started[index];

	vhost_front_begin(v);
	(void)!stop_queue(v, index, v->shadow ? NULL : &q->next_avail);
	if (shadow) {
		vhost_shadow_stop(v->shadow, index, q);
		virtio_signal_queue(d, index);
	}
}

static void front_go_on(struct virtio_device *d)
{
	struct vhost_user *v = (struct vhost_user *)d;
	bool runs = !virtio_is_live(d) || v->failed || v->gone;

	for (uint32_t i = 0; i < d->queue_count; i++)
		runs |= v->started[i];
	if (runs)
		return;
	vhost_front_begin(v);
	v->loaded = true;
	int r = start_queues(v);
	if (r < 0)
		(void)lose_back_end(v, r);
}

static const struct virtio_ops ops = {.serve = front_serve,
	.reset = front_stop,
	.event = front_event,
	.configure = front_configure,
	.start = front_start,
	.quiesce = front_quiesce,
	.save = vhost_front_save,
	.load = vhost_front_load,
	.go_on = front_go_on};

int vhost_user_init(
	struct vhost_user *v, const struct vm_memory *m, const struct vhost_user_options *o)
{
	const bool shadow = m->fd < 0 && o->shadow && !o->reconnect;

	if (m->fd < 0 && !shadow)
		return err_set(EINVAL,
			"%s: guest memory is private and can't be shared with %s: expected memory "
			"that is not mergeable (KSM)",
			o->name, o->peer);
	if (o->queue_count > VIRTIO_QUEUES_MAX || o->config_len > VHOST_USER_CONFIG_MAX ||
		m->count > VHOST_USER_REGIONS_MAX)
		return err_set(EINVAL,
			"%s: %u queues, %" PRIu32 " bytes of configuration, %u memory regions: "
			"expected %d, %d and %d at most",
			o->name, o->queue_count, o->config_len, m->count, VIRTIO_QUEUES_MAX,
			VHOST_USER_CONFIG_MAX, VHOST_USER_REGIONS_MAX);
	*v = (struct vhost_user){.sock = o->sock,
		.peer = o->peer,
		.reconnect = o->reconnect,
		.own = o->own,
		.pairs = o->pairs,
		.inflight = -EBADF,
		.timeout_ms = o->timeout_ms ? o->timeout_ms : VHOST_USER_TIMEOUT_MS};
	vhost_front_begin(v);
	int r = vhost_front_negotiate(v, o);
	if (r < 0)
		return err_ctx(r, "%s: %s", o->name, o->peer);
	v->dev = (struct virtio_device){.ops = &ops,
		.name = o->name,
		.id = o->id,
		.features = (o->features & v->offered) | o->own,
		.withheld = CARRIED & ~v->offered,
		.config = o->config ? o->config : v->config,
		.config_len = o->config_len,
		.queue_count = o->queue_count,
		.remote_queues = shadow ? 0 : o->queue_count,
		.call = -EBADF};
	virtio_init(&v->dev, m);
	v->dev.event_fd = v->sock;
	if (!shadow)
		return 0;
	v->shadow = vhost_shadow_new(o->queue_count, v->sock, o->shadow_whole);
	if (!v->shadow)
		return err_ctx(-EIO, "%s: %s", o->name, o->peer);
	v->dev.withheld = 0;
	v->dev.event_fd = v->shadow->event;
	return 0;
}

void vhost_user_release(struct vhost_user *v)
{
	vhost_shadow_free(v->shadow);
	v->shadow = NULL;
	fd_close(&v->inflight);
}
