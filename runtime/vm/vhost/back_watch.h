/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides when a vhost-user back end waits, for a device that sets watch_ns or lazy_queues
 * (vm/virtio/device.h). back.c calls these functions in the thread that serves the queues. For
 * other devices they do nothing.
 */
#pragma once
#include "vm/vhost/back_requests.h"

/* Returns whether the transport arms the device's queues, and not the device. */
bool vhost_watches(const struct vhost_backend *b);

/*
 * Watches the rings for a while after all requests were served, if the last requests came soon
 * after each other. Returns true if a queue has a request, whose `more` is then set. Returns false
 * if the thread has to look at its descriptors.
 */
bool vhost_watch_rings(struct vhost_backend *b);

/*
 * Serves the lazy queues and asks the driver for kicks, because the thread is about to wait.
 * Returns the time limit of the wait in ms, as poll(2) wants it: 0 if a request has come, so that
 * the thread must not wait.
 */
int vhost_prepare_wait(struct vhost_backend *b);

/*
 * Takes note of how the wait has ended: `events` is what poll(2) has returned, 0 if the time limit
 * is over.
 */
void vhost_wait_ended(struct vhost_backend *b, int events);
