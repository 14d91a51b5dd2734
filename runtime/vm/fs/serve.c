/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The FUSE server as a virtio device (virtio 1.2, 5.11), which vhost_serve() joins to a monitor.
 * One thread serves requests one after the other. A request for a lock that another holds is kept,
 * and tried again every RETRY_MS and after whatever else the guest asks: nothing tells when a lock
 * becomes free. What is kept is answered before its queue stops or guest memory goes.
 */
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>

#include "vm/fs/fs.h"
#include "vm/vhost/back.h"

#define RETRY_MS 10
#define WAITING_MAX 256
#define QUEUES 17 /* the high-priority queue and 16 of requests */

struct waiting {
	struct waiting *next;
	unsigned queue;
	struct virtq_chain chain;
};

struct virtio_fs_backend {
	struct virtio_device dev; /* its event_fd: a timer, armed while something waits */
	struct fs_session session;
	struct virtq_chain chain;
	struct waiting *waiting;
	unsigned waiting_count;
};

/* True: answered. */
static bool answer(
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
	virtio_signal_queue(&f->dev, queue);
	return true;
}

static int set_timer(const struct virtio_fs_backend *f, bool on)
{
	struct timespec t = {.tv_nsec = on ? RETRY_MS * 1000000 : 0};

	return timerfd_settime(
		f->dev.event_fd, 0, &(struct itimerspec){.it_value = t, .it_interval = t}, NULL);
}

static void keep(struct virtio_fs_backend *f, unsigned queue)
{
	struct waiting *w = NULL;

	if (f->waiting_count < WAITING_MAX && set_timer(f, true) == 0)
		w = malloc(sizeof(*w));
	if (!w) {
		answer(f, queue, &f->chain, true);
		return;
	}
	w->queue = queue;
	/* Chains are short as a rule: the rest of w stays untouched, hence unbacked. */
	memcpy(&w->chain, &f->chain,
		offsetof(struct virtq_chain, iov) +
			(f->chain.readable + f->chain.writable) * sizeof(f->chain.iov[0]));
	w->next = f->waiting;
	f->waiting = w;
	f->waiting_count++;
}

/* Of queue `only`, or (-1) of all. */
static void retry(struct virtio_fs_backend *f, int only, bool give_up)
{
	if (!f->waiting)
		return;
	for (struct waiting **at = &f->waiting; *at;) {
		struct waiting *w = *at;

		if ((only >= 0 && (int)w->queue != only) ||
			!answer(f, w->queue, &w->chain, give_up)) {
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

static int serve(struct virtio_device *d, unsigned index, unsigned budget)
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
		if (!answer(f, index, &f->chain, false))
			keep(f, index);
	}
	retry(f, -1, false); /* one of them may have been an unlock */
	return budget == 0;
}

static int on_timer(struct virtio_device *d)
{
	struct virtio_fs_backend *f = (struct virtio_fs_backend *)d;
	uint64_t times;

	(void)!read(d->event_fd, &times, sizeof(times));
	pthread_mutex_lock(&d->lock);
	retry(f, -1, false);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

static void quiesce(struct virtio_device *d, unsigned index)
{
	retry((struct virtio_fs_backend *)d, (int)index, true);
}

/* What the guest knows of files ends with its next INIT. */
static void reset(struct virtio_device *d)
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

static const struct virtio_ops ops = {
	.serve = serve, .reset = reset, .event = on_timer, .quiesce = quiesce};

static int init(struct virtio_fs_backend *f, const struct vmfs_config *c)
{
	/* No configuration: tag and number of queues are the monitor's. */
	f->dev = (struct virtio_device){
		.ops = &ops, .name = "virtio-fs", .id = VIRTIO_ID_FS, .queue_count = QUEUES};
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
	int r = init(f, c);
	if (r == 0)
		r = vhost_serve(&f->dev, c->sock, -EBADF);
	fs_session_release(&f->session);
	fd_close(&f->dev.event_fd);
	virtio_release(&f->dev);
	free(f);
	return r;
}
