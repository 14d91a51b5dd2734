/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The monitor is trusted with the guest's memory, but not with this process. So lengths, counts,
 * indices and addresses are checked, descriptors that do not belong to a message are closed, and a
 * message that breaks the protocol ends the connection with an error. While a queue runs, its size
 * and addresses do not change. The monitor sends the rings' addresses as addresses in its own
 * process. This process converts them to guest addresses, which queue.c translates like any other
 * guest address, and translates again when memory changes.
 *
 * Messages are handled with the device's lock held, so the device never sees half of a change.
 * Before a queue stops or memory is unmapped, the device completes all requests that it holds.
 * Otherwise they would be lost, because the front end gets only the index of the next request.
 */
#include "vm/vhost/back.h"

#include <inttypes.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "vm/vhost/back_requests.h"
#include "vm/vhost/back_threads.h"
#include "vm/vhost/back_watch.h"

/* how many descriptors the event loop polls besides the kicks of the queues */
#define FIXED_FDS 5

/* Returns -EPROTO if the request belongs to a protocol feature that was not negotiated. */
static int check_negotiated(const struct vhost_backend *b, uint32_t request)
{
	unsigned needs;

	switch (request) {
	case VHOST_USER_GET_CONFIG:
	case VHOST_USER_SET_CONFIG:
		needs = VHOST_USER_PROTOCOL_F_CONFIG;
		break;
	case VHOST_USER_SET_BACKEND_REQ_FD:
		needs = VHOST_USER_PROTOCOL_F_BACKEND_REQ;
		break;
	case VHOST_USER_RESET_DEVICE:
		needs = VHOST_USER_PROTOCOL_F_RESET_DEVICE;
		break;
	case VHOST_USER_SET_DEVICE_STATE_FD:
	case VHOST_USER_CHECK_DEVICE_STATE:
		needs = VHOST_USER_PROTOCOL_F_DEVICE_STATE;
		break;
	default:
		return 0;
	}
	if (b->protocol & 1ULL << needs)
		return 0;
	return err_set(
		EPROTO, "vhost-user: request %" PRIu32 ", which was not negotiated", request);
}

/*
 * Handles one message of the front end, or of the other process that has the socket `sock`. Returns
 * 1 to continue, 0 if the front end has closed the connection, or -errno.
 */
static int take_message(struct vhost_backend *b, int sock)
{
	struct vhost_message m;
	bool ack = false, answered = false;

	int r = vhost_receive(sock, b->stop_fd, &m);
	if (r <= 0)
		goto out;
	vhost_threads_pause(b->threads);
	pthread_mutex_lock(&b->device->lock);
	r = check_negotiated(b, m.h.request);
	if (r == 0) {
		r = vhost_answer_request(b, &m);
		answered = r == 0;
	}
	if (r == 1) {
		ack = (m.h.flags & VHOST_USER_NEED_REPLY) &&
		      (b->protocol & (1ULL << VHOST_USER_PROTOCOL_F_REPLY_ACK));
		r = vhost_apply_request(b, &m);
	}
	pthread_mutex_unlock(&b->device->lock);
	vhost_threads_continue(b->threads);
	if (ack) {
		m.p.u64 = r < 0;
		/*
		 * Keeps the error message of the failed request, because a failure to send the
		 * answer would replace it.
		 */
		char why[ERR_MAX];
		memcpy(why, err_msg(), strlen(err_msg()) + 1);
		int sent = vhost_reply(sock, &m, sizeof(m.p.u64));
		r = r < 0 ? err_set(-r, "%s", why) : sent;
	} else if (answered) {
		r = vhost_reply(sock, &m, m.h.size);
		if (r >= 0)
			vhost_state_move(b);
	}
	if (r == 0)
		r = 1;
out:
	vhost_message_release(&m);
	return r;
}

int vhost_take_kick(const struct vhost_backend *b, unsigned i)
{
	uint64_t n;
	ssize_t r = read(b->queues[i].kick, &n, sizeof(n));

	if (r == (ssize_t)sizeof(n) || (r < 0 && (errno == EAGAIN || errno == EINTR)))
		return 0;
	return err_set(EPROTO, "vhost-user: queue %u: the kick descriptor is no eventfd", i);
}

/*
 * Serves the queues that were kicked, and those that had more requests than the previous call
 * served. Returns 1 if a queue still has requests, or 0 if there is nothing to do before the next
 * event.
 */
static int serve_queues(struct vhost_backend *b)
{
	int busy = 0;

	if (b->threads)
		return 0;
	for (unsigned i = 0; i < b->device->queue_count; i++) {
		struct vhost_queue *v = &b->queues[i];

		if (v->more) {
			v->more = virtio_kick(b->device, i) > 0;
			b->watch.served = true;
		}
		busy |= v->more;
	}
	return busy;
}

static int check_broken(struct virtio_device *d)
{
	int r = 0;

	pthread_mutex_lock(&d->lock);
	if (d->status & VIRTIO_CONFIG_S_NEEDS_RESET)
		r = err_set(EPROTO, "%s", d->broken);
	pthread_mutex_unlock(&d->lock);
	return r;
}

/*
 * Calls the device's function for its own event. If each queue has a thread, the threads are paused
 * meanwhile, and serve their queues once afterwards, because the event may have changed what the
 * device can serve.
 */
static void handle_device_event(struct vhost_backend *b)
{
	struct virtio_device *d = b->device;

	vhost_threads_pause(b->threads);
	b->event_more = d->ops->event(d) > 0;
	for (unsigned i = 0; b->threads && i < d->queue_count; i++)
		b->queues[i].more |= d->queues[i].ready;
	vhost_threads_continue(b->threads);
}

/*
 * Waits for events (messages, kicks and the device's own event) and handles them. If `busy` is not
 * 0, queues have more requests, so the function does not wait. Returns 1 to continue, 0 if the
 * front end has closed the connection or stop_fd is readable, or -errno.
 */
static int serve_events(struct vhost_backend *b, int busy)
{
	struct virtio_device *d = b->device;
	struct pollfd p[FIXED_FDS + VIRTIO_QUEUES_MAX] = {
		{.fd = b->sock, .events = POLLIN},
		{.fd = b->stop_fd, .events = POLLIN},
		{.fd = d->event_fd, .events = POLLIN},
		{.fd = b->threads ? vhost_threads_failed(b->threads) : -EBADF, .events = POLLIN},
		{.fd = b->carrier, .events = POLLIN},
	};

	/*
	 * Polls the queues only up to the last one that is ready. Linux uses only two or three of
	 * the 17 queues that a file system device may have, and each polled descriptor costs time.
	 */
	unsigned used = 0;
	for (unsigned i = 0; !b->threads && i < d->queue_count; i++) {
		bool ready = d->queues[i].ready;
		p[FIXED_FDS + i] =
			(struct pollfd){.fd = ready ? b->queues[i].kick : -EBADF, .events = POLLIN};
		used = ready ? i + 1 : used;
	}
	b->watch.rounds = 0;
	int timeout = busy || b->event_more ? 0 : vhost_prepare_wait(b);
	int events = poll(p, FIXED_FDS + used, timeout);
	if (events < 0)
		return errno == EINTR ? 1 : err_sys("vhost-user: poll");
	if (timeout != 0)
		vhost_wait_ended(b, events);
	if (p[1].revents)
		return 0;
	if (p[3].revents)
		return vhost_threads_error(b->threads);
	for (unsigned i = 0; i < used; i++) {
		int r = p[FIXED_FDS + i].revents ? vhost_take_kick(b, i) : 0;

		if (r < 0)
			return r;
		b->queues[i].more |= p[FIXED_FDS + i].revents != 0;
	}
	if (p[2].revents || b->event_more)
		handle_device_event(b);
	/* The front end's messages come first, because they negotiate for the carrier too. */
	if (p[0].revents)
		return take_message(b, b->sock);
	int r = p[4].revents ? take_message(b, b->carrier) : 1;
	if (r != 0)
		return r;
	/* The carrier has ended. The front end may go on without it. */
	b->carrier = -EBADF;
	return 1;
}

static int serve_front_end(struct vhost_backend *b)
{
	int busy = 0;

	for (;;) {
		int r = serve_events(b, busy);
		if (r <= 0)
			return r == -ECANCELED ? 0 : r;
		do {
			busy = serve_queues(b);
			r = check_broken(b->device);
			if (r < 0)
				return r;
		} while (!busy && vhost_watch_rings(b));
	}
}

int vhost_open(struct virtio_device *d, int sock, struct vhost_backend **ret)
{
	struct vhost_backend *b = calloc(1, sizeof(*b));

	*ret = b;
	if (!b)
		return err_set(ENOMEM, "vhost-user: out of memory");
	*b = (struct vhost_backend){.device = d,
		.sock = sock,
		.stop_fd = -EBADF,
		.carrier = -EBADF,
		.memory = VM_MEMORY_NONE,
		.requests = -EBADF,
		.state_fd = -EBADF};
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		b->queues[i].kick = b->queues[i].call = -EBADF;
	pthread_mutex_lock(&d->lock);
	d->memory = &b->memory;
	d->signal = vhost_signal;
	d->transport = b;
	pthread_mutex_unlock(&d->lock);
	return 0;
}

int vhost_continue(struct vhost_backend *b, int stop_fd)
{
	b->stop_fd = stop_fd;
	return serve_front_end(b);
}

void vhost_close(struct vhost_backend *b)
{
	struct virtio_device *d = b->device;

	vhost_threads_end(b);
	pthread_mutex_lock(&d->lock);
	vhost_reset(b);
	d->memory = NULL;
	d->signal = NULL;
	d->transport = NULL;
	pthread_mutex_unlock(&d->lock);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++) {
		fd_close(&b->queues[i].kick);
		fd_close(&b->queues[i].call);
	}
	fd_close(&b->requests);
	fd_close(&b->state_fd);
	vm_memory_release(&b->memory);
	free(b);
}

static int serve_device(struct virtio_device *d, int sock, int carrier, int stop_fd, bool threads)
{
	struct vhost_backend *b;
	int r = vhost_open(d, sock, &b);

	if (r < 0)
		return r;
	b->carrier = carrier;
	r = threads ? vhost_threads_start(b) : 0;
	if (r >= 0)
		r = vhost_continue(b, stop_fd);
	vhost_close(b);
	return r;
}

int vhost_serve(struct virtio_device *d, int sock, int stop_fd)
{
	return serve_device(d, sock, -EBADF, stop_fd, false);
}

int vhost_serve_carried(struct virtio_device *d, int sock, int carrier)
{
	return serve_device(d, sock, carrier, -EBADF, false);
}

int vhost_serve_threads(struct virtio_device *d, int sock, int stop_fd)
{
	return serve_device(d, sock, -EBADF, stop_fd, true);
}
