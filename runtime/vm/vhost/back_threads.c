/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Each queue has a thread, and a lock that the thread holds while it serves the queue. The thread
 * that handles messages takes all these locks before it changes anything. A queue's thread with
 * many requests takes its lock again at once after each batch, so the thread that handles messages
 * would never get that lock. Therefore all threads pass through one more lock, the turnstile,
 * before they take a queue's lock. The thread that handles messages holds the turnstile from the
 * time at which it begins to wait until it is done.
 *
 * Without its lock a queue's thread waits for two events: the kick of its queue, and its own
 * eventfd `wake`, which says that a message may have changed the queue. The descriptor of the kick
 * may be closed, and its number used again, while the thread waits for it. So the thread reads the
 * descriptor only with the lock held, and only if the queue's kick still has the same number; if
 * the number belongs to another descriptor then, that is an eventfd too and does not block.
 *
 * A thread that finds an error keeps the message, makes `failed` readable, and ends. The thread
 * that handles messages then ends the connection.
 */
#include "vm/vhost/back_threads.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

/*
 * How many requests a thread serves before it lets the thread that handles messages run and raises
 * the interrupt, so that neither a message nor the guest has to wait long.
 */
#define BATCH 32

struct queue_thread {
	struct vhost_backend *backend;
	unsigned index;
	pthread_t thread;
	pthread_mutex_t lock;
	int wake;
	int error;         /* the error with which the thread ended, protected by `lock`; 0: none */
	char why[ERR_MAX]; /* message of `error` */
};

struct vhost_threads {
	pthread_mutex_t turnstile;
	atomic_bool ending;
	int failed;
	unsigned count, started; /* number of queues, and number of threads that were started */
	struct queue_thread queues[];
};

static void enter(struct queue_thread *q)
{
	pthread_mutex_t *turnstile = &q->backend->threads->turnstile;

	pthread_mutex_lock(turnstile);
	pthread_mutex_unlock(turnstile);
	pthread_mutex_lock(&q->lock);
}

/*
 * Serves at most BATCH requests of the thread's queue. If `kicked` is the queue's kick descriptor,
 * reads it first. The caller holds the queue's lock.
 */
static int serve_batch(struct queue_thread *q, int kicked)
{
	struct vhost_backend *b = q->backend;
	struct vhost_queue *v = &b->queues[q->index];

	if (kicked >= 0 && kicked == v->kick && v->started) {
		int r = vhost_take_kick(b, q->index);
		if (r < 0)
			return r;
		v->more = true;
	}
	if (!v->more)
		return 0;
	int r = virtio_serve_queue(b->device, q->index, BATCH);
	v->more = r > 0;
	return r < 0 ? r : 0;
}

/* Keeps the error for the thread that handles messages. The caller holds the queue's lock. */
static void keep_error(struct queue_thread *q, int r)
{
	q->error = r;
	snprintf(q->why, sizeof(q->why), "%s", err_msg());
	eventfd_write(q->backend->threads->failed, 1);
}

/*
 * Waits until the queue is kicked or a message has been handled. Returns the kick's descriptor
 * number if the queue was kicked, -EAGAIN if a message was handled, or another error.
 */
static int wait_for_work(const struct queue_thread *q, int kick)
{
	struct pollfd p[2] = {{.fd = q->wake, .events = POLLIN}, {.fd = kick, .events = POLLIN}};
	eventfd_t n;

	if (poll(p, 2, -1) < 0)
		return errno == EINTR ? -EAGAIN : err_sys("vhost-user: poll");
	if (p[0].revents)
		(void)eventfd_read(q->wake, &n);
	return p[1].revents ? kick : -EAGAIN;
}

static void *serve_queue(void *arg)
{
	struct queue_thread *q = arg;
	struct vhost_backend *b = q->backend;
	const struct vhost_queue *v = &b->queues[q->index];
	int kicked = -EAGAIN;

	while (!atomic_load(&b->threads->ending)) {
		enter(q);
		int r = kicked < 0 && kicked != -EAGAIN ? kicked : serve_batch(q, kicked);
		if (r < 0)
			keep_error(q, r);
		bool more = v->more;
		int kick = b->device->queues[q->index].ready ? v->kick : -EBADF;
		pthread_mutex_unlock(&q->lock);
		if (r < 0)
			break;
		kicked = more ? -EAGAIN : wait_for_work(q, kick);
	}
	return NULL;
}

int vhost_threads_start(struct vhost_backend *b)
{
	const unsigned count = b->device->queue_count;
	struct vhost_threads *t = calloc(1, sizeof(*t) + count * sizeof(t->queues[0]));

	if (!t)
		return err_set(ENOMEM, "vhost-user: out of memory");
	b->threads = t;
	t->count = count;
	pthread_mutex_init(&t->turnstile, NULL);
	t->failed = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	bool ok = t->failed >= 0;
	for (unsigned i = 0; i < count; i++) {
		struct queue_thread *q = &t->queues[i];

		q->backend = b;
		q->index = i;
		pthread_mutex_init(&q->lock, NULL);
		q->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		ok = ok && q->wake >= 0;
	}
	if (!ok)
		return err_sys("vhost-user: create an eventfd");
	for (; t->started < count; t->started++) {
		struct queue_thread *q = &t->queues[t->started];
		int r = pthread_create(&q->thread, NULL, serve_queue, q);
		if (r)
			return err_set(r, "vhost-user: start the thread of queue %u: %s",
				t->started, strerror(r));
	}
	return 0;
}

static void wake_all(struct vhost_threads *t)
{
	for (unsigned i = 0; i < t->started; i++)
		eventfd_write(t->queues[i].wake, 1);
}

void vhost_threads_end(struct vhost_backend *b)
{
	struct vhost_threads *t = b->threads;

	if (!t)
		return;
	atomic_store(&t->ending, true);
	wake_all(t);
	for (unsigned i = 0; i < t->started; i++)
		pthread_join(t->queues[i].thread, NULL);
	for (unsigned i = 0; i < t->count; i++) {
		fd_close(&t->queues[i].wake);
		pthread_mutex_destroy(&t->queues[i].lock);
	}
	pthread_mutex_destroy(&t->turnstile);
	fd_close(&t->failed);
	free(t);
	b->threads = NULL;
}

void vhost_threads_pause(struct vhost_threads *t)
{
	if (!t)
		return;
	pthread_mutex_lock(&t->turnstile);
	for (unsigned i = 0; i < t->count; i++)
		pthread_mutex_lock(&t->queues[i].lock);
}

void vhost_threads_continue(struct vhost_threads *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < t->count; i++)
		pthread_mutex_unlock(&t->queues[i].lock);
	pthread_mutex_unlock(&t->turnstile);
	wake_all(t);
}

int vhost_threads_failed(const struct vhost_threads *t)
{
	return t->failed;
}

int vhost_threads_error(struct vhost_threads *t)
{
	int r = -EIO;

	vhost_threads_pause(t);
	for (unsigned i = 0; i < t->count; i++)
		if (t->queues[i].error < 0) {
			r = err_set(-t->queues[i].error, "%s", t->queues[i].why);
			break;
		}
	vhost_threads_continue(t);
	return r;
}
