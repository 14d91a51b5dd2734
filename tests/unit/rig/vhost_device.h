/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device that a vhost-user back end serves. The rig also has the device's driver, and
 * takes the place of the machine's transport and event loop: it provides the descriptors and calls
 * that the device gets from those.
 */
#pragma once
#include "unit/rig/virtio.h"
#include "vm/vhost/front.h"

/* time in which a back end that works must answer, even on a busy machine */
#define PATIENCE_MS 20000

struct wired {
	struct rig g;
	int kicks[VIRTIO_QUEUES_MAX], call;
	unsigned lost; /* number of times that the device reported the loss of its back end */
	char why[256];
};

void wired_attach(struct wired *w, struct vhost_user *v);
void wired_release(struct wired *w);

/*
 * Serves the device's event_fd once, if it becomes readable within `ms` milliseconds. Returns false
 * if it does not become readable.
 */
bool wired_serve_event(struct wired *w, int ms);
