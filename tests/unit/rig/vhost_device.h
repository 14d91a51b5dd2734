/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device that a vhost-user back end serves, and a driver of this device. The rig takes the
 * place of the machine's transport and event loop: it provides the descriptors and functions that
 * they would give the device.
 */
#pragma once
#include "unit/rig/virtio.h"
#include "vm/vhost/front.h"

/* time in which a correct back end must answer, even on a busy machine */
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
 * Waits up to `ms` milliseconds until the device's event_fd is readable, and lets the device handle
 * the event. Returns false if event_fd does not become readable.
 */
bool wired_serve_event(struct wired *w, int ms);
