/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * One thread waits for the monitor's messages and the queues' kicks, and serves the requests one
 * after the other. A queue gets at most as many requests served at a time as it is long, so that no
 * queue keeps the others, or the monitor, waiting for good. A request for a lock that another holds
 * is kept, and tried again every RETRY_MS: nothing tells when a lock becomes free.
 */
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "fs.h"
#include "vhost_backend.h"

#define RETRY_MS 10
#define WAITING_MAX 256

struct waiting {
	struct waiting *next;
	struct vhost_queue *queue;
	struct vring_chain chain;
};

struct server {
	struct vhost_device dev;
	struct fs_session fs;
	struct vring_chain chain;
	struct waiting *waiting;
	unsigned int nwaiting;
	bool busy; /* a queue had more than its share */
};

/* True: answered. */
static int serve_chain(
	struct server *s, struct vhost_queue *q, const struct vring_chain *c, bool give_up)
{
	struct fs_request r = {.in = c->iov,
		.nin = c->nin,
		.out = c->iov + c->nin,
		.nout = c->nout,
		.give_up = give_up};

	int n = fs_handle(&s->fs, &r);
	if (n == FS_LATER)
		return false;
	vring_done(&q->ring, c->head, (uint32_t)n);
	return true;
}

static void keep(struct server *s, struct vhost_queue *q)
{
	struct waiting *w = s->nwaiting < WAITING_MAX ? malloc(sizeof(*w)) : NULL;

	if (!w) {
		serve_chain(s, q, &s->chain, true);
		return;
	}
	w->queue = q;
	w->chain = s->chain;
	w->next = s->waiting;
	s->waiting = w;
	s->nwaiting++;
}

static void retry(struct server *s, const struct vhost_queue *only, bool give_up)
{
	for (struct waiting **at = &s->waiting; *at;) {
		struct waiting *w = *at;

		if ((only && w->queue != only) || !serve_chain(s, w->queue, &w->chain, give_up)) {
			at = &w->next;
			continue;
		}
		vhost_signal(w->queue);
		*at = w->next;
		s->nwaiting--;
		free(w);
	}
}

static void quiesce(void *ctx, struct vhost_queue *q)
{
	retry(ctx, q, true);
}

static int serve_queue(struct server *s, struct vhost_queue *q)
{
	vring_want_kicks(&q->ring, false);
	for (uint32_t i = 0; i < q->ring.num; i++) {
		int r = vring_next(&q->ring, &s->chain);
		if (r < 0)
			return r;
		if (r == 0 && !vring_want_kicks(&q->ring, true))
			return 0;
		if (r == 0)
			continue;
		if (!serve_chain(s, q, &s->chain, false))
			keep(s, q);
		vhost_signal(q);
	}
	s->busy = true;
	return 0;
}

/* One turn. 1, 0 when the monitor is gone, or -errno. */
static int turn(struct server *s)
{
	struct pollfd p[VHOST_MAX_QUEUES + 1] = {{.fd = s->dev.sock, .events = POLLIN}};
	int timeout = s->busy ? 0 : s->waiting ? RETRY_MS : -1;

	for (size_t i = 0; i < VHOST_MAX_QUEUES; i++) {
		const struct vhost_queue *q = &s->dev.queue[i];
		p[i + 1] = (struct pollfd){.fd = vhost_ready(q) ? q->kick : -1, .events = POLLIN};
	}
	if (poll(p, ARRAY_SIZE(p), timeout) < 0)
		return errno == EINTR ? 1 : err_sys("virtio-fs: poll");
	bool all = s->busy;
	s->busy = false;
	for (size_t i = 0; i < VHOST_MAX_QUEUES; i++) {
		struct vhost_queue *q = &s->dev.queue[i];
		int r = p[i + 1].revents ? vhost_take_kick(q) : 0;

		if (r == 0 && (p[i + 1].revents || all) && vhost_ready(q))
			r = serve_queue(s, q);
		if (r < 0)
			return r;
	}
	retry(s, NULL, false);
	if (!p[0].revents)
		return 1;
	/* A queue that now runs may have been filled before anybody listened to its kicks. */
	s->busy = true;
	return vhost_message(&s->dev);
}

int vmfs_serve(const struct vmfs_config *c)
{
	/* A monitor may pass a pipe as a queue's descriptor, and close its other end. */
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	struct server *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return err_set(ENOMEM, "virtio-fs: out of memory");
	sigaction(SIGPIPE, &ignore, NULL);
	vhost_init(&s->dev, c->sock);
	s->dev.quiesce = quiesce;
	s->dev.ctx = s;
	r = fs_session_init(&s->fs, c);
	while (r >= 0 && (r = turn(s)) > 0)
		;
	vhost_release(&s->dev);
	fs_session_release(&s->fs);
	free(s);
	return r;
}
