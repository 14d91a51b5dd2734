/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device that a vhost-user back end serves, with its driver, and with the descriptors and
 * calls that the machine's transport and event loop provide.
 */
#pragma once
#include "unit/rig/virtio.h"
#include "vm/vhost/front.h"

#define PATIENCE_MS 20000 /* how long a back end that answers may take on a busy machine */

struct wired {
	struct rig g;
	int kicks[VIRTIO_QUEUES_MAX], call;
	unsigned lost; /* how often the device reported that its back end is gone */
	char why[256];
};

void wired_attach(struct wired *w, struct vhost_user *v);
void wired_release(struct wired *w);

/* Serves the device's event_fd once, if it becomes readable within `ms`. False: it did not. */
bool wired_serve_event(struct wired *w, int ms);
