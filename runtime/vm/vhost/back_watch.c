/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A kick makes the guest leave its CPU, and then the kernel has to wake the thread that serves the
 * queue. For a short request both together take longer than the request. So, when it has served all
 * requests, the thread watches the rings for a while before it asks for kicks and waits. The time
 * adapts itself, as in KVM's halt polling: it grows if the next request comes soon after the thread
 * has begun to wait, and becomes 0 if the next request takes longer than the device's limit
 * watch_ns. So a guest that makes few requests costs no CPU time.
 *
 * While it watches the rings, the thread sees no message of the front end and no other event. So
 * after ROUNDS_MAX successes in a row it looks at its descriptors once.
 *
 * A lazy queue has requests for which the guest does not wait, such as FORGET of a file system.
 * They are served before the thread waits, and not before other requests. The driver kicks only
 * once 1/LAZY_SHARE of the queue is full, and gets an interrupt only for so many requests at a
 * time. LAZY_MS after the last request of any queue, the thread serves and signals what is left,
 * and asks for a kick at the next request. So no request waits longer than that.
 */
#include "vm/vhost/back_watch.h"

#include "base/clock.h"

#define WATCH_FIRST_NS 16000 /* length of the first watch after one that became 0 */
#define LOOKS 64             /* how often the rings are read between two looks at the clock */
#define ROUNDS_MAX 64
#define LAZY_MS 10
#define LAZY_SHARE 4 /* a divisor: the share is a quarter of the queue */

bool vhost_watches(const struct vhost_backend *b)
{
	return !b->threads && (b->device->watch_ns || b->device->lazy_queues);
}

static bool is_lazy(const struct vhost_backend *b, unsigned i)
{
	return b->device->lazy_queues >> i & 1;
}

/* Returns how many requests of queue i make it worth while to serve the queue now. */
static uint16_t enough(const struct vhost_backend *b, unsigned i)
{
	uint16_t most = b->device->queues[i].size / LAZY_SHARE;

	return is_lazy(b, i) && most > 0 ? most : 1;
}

static bool find_requests(struct vhost_backend *b)
{
	bool found = false;

	for (unsigned i = 0; i < b->device->queue_count; i++) {
		if (virtq_pending(&b->device->queues[i]) < enough(b, i))
			continue;
		b->queues[i].more = true;
		found = true;
	}
	return found;
}

bool vhost_watch_rings(struct vhost_backend *b)
{
	if (!vhost_watches(b) || !b->watch.served)
		return false;
	b->watch.served = false;
	b->watch.unsettled = true;
	b->watch.idle_from = clock_ns();
	if (b->watch.rounds >= ROUNDS_MAX)
		return false;
	b->watch.rounds++;
	do {
		for (int i = 0; i < LOOKS; i++) {
			if (find_requests(b))
				return true;
			__builtin_ia32_pause();
		}
	} while (clock_ns() - b->watch.idle_from < b->watch.ns);
	return false;
}

/*
 * Serves the requests of a lazy queue. Signals those that are served if `all` is set or if there
 * are enough of them.
 */
static void serve_lazily(struct vhost_backend *b, unsigned i, bool all)
{
	struct virtio_device *d = b->device;

	if (virtq_pending(&d->queues[i]) > 0)
		b->queues[i].more = virtio_kick(d, i) > 0;
	pthread_mutex_lock(&d->lock);
	if (all || virtq_unsignalled(&d->queues[i]) >= enough(b, i))
		virtio_signal_queue(d, i);
	pthread_mutex_unlock(&d->lock);
}

int vhost_prepare_wait(struct vhost_backend *b)
{
	struct virtio_device *d = b->device;
	bool more = false;

	if (!vhost_watches(b))
		return -1;
	for (unsigned i = 0; i < d->queue_count; i++)
		if (is_lazy(b, i) && d->queues[i].ready)
			serve_lazily(b, i, !b->watch.unsettled);
	for (unsigned i = 0; i < d->queue_count; i++) {
		bool late = is_lazy(b, i) && b->watch.unsettled;
		if (virtq_arm_after(&d->queues[i], late ? enough(b, i) - 1 : 0))
			b->queues[i].more = true;
		more |= b->queues[i].more;
	}
	return more ? 0 : b->watch.unsettled && d->lazy_queues ? LAZY_MS : -1;
}

void vhost_wait_ended(struct vhost_backend *b, int events)
{
	const uint64_t limit = b->device->watch_ns;

	if (!vhost_watches(b))
		return;
	if (events == 0) {
		b->watch.unsettled = false;
		return;
	}
	uint64_t idle = clock_ns() - b->watch.idle_from;
	if (idle > limit)
		b->watch.ns = 0;
	else if (idle > b->watch.ns)
		b->watch.ns = b->watch.ns ? b->watch.ns * 2 : WATCH_FIRST_NS;
	if (b->watch.ns > limit)
		b->watch.ns = limit;
}
