/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The threads of a vhost-user back end that serves each queue in a thread of its own
 * (vhost_serve_threads()). back.c calls these functions in the thread that handles messages. With
 * NULL for `t` the functions do nothing.
 */
#pragma once
#include "vm/vhost/back_requests.h"

/*
 * Starts a thread for each queue of the device. Sets b->threads, even if a thread cannot be
 * started.
 */
int vhost_threads_start(struct vhost_backend *b) must_check;
/* Ends and frees the threads, if there are any. */
void vhost_threads_end(struct vhost_backend *b);

/*
 * Pause and resume the threads. While they are paused no thread serves its queue, so that a message
 * may change the queues, the memory and the device. When they resume, each thread checks its queue
 * again.
 */
void vhost_threads_pause(struct vhost_threads *t);
void vhost_threads_continue(struct vhost_threads *t);

/* Returns a descriptor that becomes readable when a thread has stopped because of an error. */
int vhost_threads_failed(const struct vhost_threads *t);
/* Returns the error of the thread that has stopped, with its message. */
int vhost_threads_error(struct vhost_threads *t) must_check;

/*
 * This function of back.c reads the eventfd by which queue i was kicked. Returns -EPROTO if the
 * descriptor is no eventfd.
 */
int vhost_take_kick(const struct vhost_backend *b, unsigned i) must_check;
