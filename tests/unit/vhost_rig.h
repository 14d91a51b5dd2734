/* SPDX-License-Identifier: Apache-2.0 */
/* A device that another process serves, with its driver: what the transport and the event loop do.
 */
#pragma once
#include <poll.h>
#include <sys/eventfd.h>

#include "unit/vm_rig.h"
#include "vm/vhost/front.h"

#define PATIENCE_MS 20000 /* for one that answers: the machine may be busy */

static inline unsigned open_files(void)
{
	unsigned n = 0;

	for (int fd = 0; fd < 1024; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

struct wired {
	struct rig g;
	int kicks[VIRTIO_QUEUES_MAX], call;
	unsigned lost;
	char why[256];
};

static inline void on_lost(void *ctx, const char *why)
{
	struct wired *w = ctx;

	w->lost++;
	snprintf(w->why, sizeof(w->why), "%s", why);
}

static inline void wire(struct wired *w, struct vhost_user *v)
{
	rig_attach(&w->g, &v->dev);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		w->kicks[i] = i < v->dev.queue_count ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
	w->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	v->dev.kicks = w->kicks;
	v->dev.call = w->call;
	v->lost = on_lost;
	v->lost_ctx = w;
}

static inline void unwire(struct wired *w)
{
	rig_release(&w->g);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		fd_close(&w->kicks[i]);
	fd_close(&w->call);
}

/* What the event loop does: serves event_fd if it is readable within `ms`. */
static inline bool loop(struct wired *w, int ms)
{
	struct pollfd p = {w->g.dev->event_fd, POLLIN, 0};

	if (p.fd < 0 || poll(&p, 1, ms) <= 0)
		return false;
	(void)w->g.dev->ops->event(w->g.dev);
	return true;
}
