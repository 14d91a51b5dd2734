/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * This is the FUSE server as a virtio device (virtio 1.2, 5.11), which vhost_serve() connects to a
 * monitor. One thread serves one request after the other. If a request wants a lock that another
 * owner holds, the server defers the request. It retries each deferred request every RETRY_MS and
 * after each other request of the guest, because no event tells when a lock is free. Before a queue
 * stops or guest memory is unmapped, the server answers all deferred requests.
 */
#include <linux/virtio_ids.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>

#include "vm/fs/fs.h"
#include "vm/vhost/back.h"

#define RETRY_MS 10
#define WATCH_US 200 /* as long as KVM polls for an idle vCPU by default (halt_poll_ns) */
#define WAITING_MAX 256
#define QUEUES 17 /* one high-priority queue and 16 request queues */
/*
 * The high-priority queue carries FORGET, for which the guest does not wait, and INTERRUPT, which
 * has no effect here.
 */
#define QUEUE_FORGETS 0

struct waiting {
	struct waiting *next;
	unsigned queue;
	struct virtq_chain chain;
};

struct virtio_fs_backend {
	/* the virtio device; its event_fd is a timer, which runs while a request is deferred */
	struct virtio_device dev;
	struct fs_session session;
	struct virtq_chain chain;
	struct waiting *waiting;
	unsigned waiting_count;
};

/*
 * Serves the request in *c. Returns true if the request was answered, and false if it has to wait
 * for a lock. With `give_up` the answer is -ENOLCK instead of waiting.
 */
static bool answer_request(
	struct virtio_fs_backend *f, unsigned queue, const struct virtq_chain *c, bool give_up)
{
	struct fs_request r = {.in = c->iov,
		.nin = c->readable,
		.out = c->iov + c->readable,
		.nout = c->writable,
		.give_up = give_up};

	int n = fs_handle(&f->session, &r);
	if (n == FS_LATER)
		return false;
	virtq_push(&f->dev.queues[queue], c->head, (uint32_t)n);
	if (queue != QUEUE_FORGETS)
		virtio_signal_queue(&f->dev, queue);
	return true;
}

static int set_timer(const struct virtio_fs_backend *f, bool on)
{
	struct timespec t = {.tv_nsec = on ? RETRY_MS * 1000000 : 0};

	return timerfd_settime(
		f->dev.event_fd, 0, &(struct itimerspec){.it_value = t, .it_interval = t}, NULL);
}

static void keep_request(struct virtio_fs_backend *f, unsigned queue)
{
	struct waiting *w = NULL;

	if (f->waiting_count < WAITING_MAX && set_timer(f, true) == 0)
		w = malloc(sizeof(*w));
	if (!w) {
		answer_request(f, queue, &f->chain, true);
		return;
	}
	w->queue = queue;
	/*
	 * Copies only the used entries of the array of buffers, because most requests have few
	 * buffers, and memory that is never written costs nothing.
	 */
	memcpy(&w->chain, &f->chain,
		offsetof(struct virtq_chain, iov) +
			(f->chain.readable + f->chain.writable) * sizeof(f->chain.iov[0]));
	w->next = f->waiting;
	f->waiting = w;
	f->waiting_count++;
}

/*
 * Retries the deferred requests, which wait for file locks: those of the queue number `only`, or of
 * all queues if `only` is -1. With `give_up`, a request that still cannot get its lock is answered
 * -ENOLCK.
 */
static void retry_requests(struct virtio_fs_backend *f, int only, bool give_up)
{
	if (!f->waiting)
		return;
	for (struct waiting **at = &f->waiting; *at;) {
		struct waiting *w = *at;

		if ((only >= 0 && (int)w->queue != only) ||
			!answer_request(f, w->queue, &w->chain, give_up)) {
			at = &w->next;
			continue;
		}
		*at = w->next;
		f->waiting_count--;
		free(w);
	}
	if (!f->waiting)
		(void)set_timer(f, false);
}

static int backend_serve(struct virtio_device *d, unsigned index, unsigned budget)
{
	struct virtio_fs_backend *f = (struct virtio_fs_backend *)d;
	struct virtq *q = &d->queues[index];

	virtq_disarm(q);
	for (; budget > 0; budget--) {
		int r = virtq_next(q, &f->chain);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		if (!answer_request(f, index, &f->chain, false))
			keep_request(f, index);
	}
	/*
	 * retries the deferred requests, because the new request may have released the lock that
	 * they wait for
	 */
	retry_requests(f, -1, false);
	return budget == 0;
}

static int on_timer(struct virtio_device *d)
{
	struct virtio_fs_backend *f = (struct virtio_fs_backend *)d;
	uint64_t times;

	(void)!read(d->event_fd, &times, sizeof(times));
	pthread_mutex_lock(&d->lock);
	retry_requests(f, -1, false);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static void backend_quiesce(struct virtio_device *d, unsigned index)
{
	retry_requests((struct virtio_fs_backend *)d, (int)index, true);
}

/* Drops the deferred requests. The guest's open files and nodes stay until the guest sends INIT. */
static void backend_reset(struct virtio_device *d)
{
	struct virtio_fs_backend *f = (struct virtio_fs_backend *)d;

	while (f->waiting) {
		struct waiting *w = f->waiting;

		f->waiting = w->next;
		free(w);
	}
	f->waiting_count = 0;
	(void)set_timer(f, false);
}

static int backend_save(struct virtio_device *d, struct snapshot_writer *w)
{
	return fs_session_save(&((struct virtio_fs_backend *)d)->session, w);
}

static int backend_load(struct virtio_device *d, struct snapshot_part *p)
{
	return fs_session_load(&((struct virtio_fs_backend *)d)->session, p);
}

static const struct virtio_ops ops = {.serve = backend_serve,
	.reset = backend_reset,
	.event = on_timer,
	.quiesce = backend_quiesce,
	.save = backend_save,
	.load = backend_load};

static int backend_init(struct virtio_fs_backend *f, const struct vmfs_config *c)
{
	/*
	 * The device offers no configuration space, because the monitor at the other end of the
	 * vhost-user socket knows the tag and the number of queues itself.
	 */
	f->dev = (struct virtio_device){.ops = &ops,
		.name = "virtio-fs",
		.id = VIRTIO_ID_FS,
		.queue_count = QUEUES,
		.watch_ns = c->watch_us * 1000,
		.lazy_queues = 1u << QUEUE_FORGETS};
	virtio_init(&f->dev, NULL);
	f->dev.event_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (f->dev.event_fd < 0)
		return err_sys("virtio-fs: create a timer");
	return fs_session_init(&f->session, c);
}

int vmfs_serve(const struct vmfs_config *c)
{
	struct virtio_fs_backend *f = calloc(1, sizeof(*f));

	if (!f)
		return err_set(ENOMEM, "virtio-fs: out of memory");
	int r = backend_init(f, c);
	if (r == 0)
		r = vhost_serve_carried(&f->dev, c->sock, c->carrier > 0 ? c->carrier : -EBADF);
	fs_session_release(&f->session);
	fd_close(&f->dev.event_fd);
	virtio_release(&f->dev);
	free(f);
	return r;
}

uint32_t vmfs_watch_us(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 1 ? WATCH_US : 0;
}
