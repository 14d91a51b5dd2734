/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/vhost_device.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "base/fd.h"

static void on_lost(void *ctx, const char *why)
{
	struct wired *w = ctx;

	w->lost++;
	snprintf(w->why, sizeof(w->why), "%s", why);
}

void wired_attach(struct wired *w, struct vhost_user *v)
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

void wired_release(struct wired *w)
{
	rig_release(&w->g);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		fd_close(&w->kicks[i]);
	fd_close(&w->call);
}

bool wired_serve_event(struct wired *w, int ms)
{
	struct pollfd p = {w->g.dev->event_fd, POLLIN, 0};

	if (p.fd < 0 || poll(&p, 1, ms) <= 0)
		return false;
	(void)w->g.dev->ops->event(w->g.dev);
	return true;
}
