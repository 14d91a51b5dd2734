/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the back end of vhost-user (QEMU, docs/interop/vhost-user.rst) as a transport for any
 * struct virtio_device. A monitor (QEMU or caisson) emulates the device's registers, and sends over
 * a Unix socket where the guest's memory and the device's queues are. This process serves the
 * queues.
 *
 *	virtio_XXX_init(&x, NULL)     the front end sends the guest memory later
 *	vhost_serve(&x.dev, sock, stop_fd)
 *	virtio_release(&x.dev)
 *
 * The back end offers the device's features and the protocol features MQ, REPLY_ACK, RESET_DEVICE,
 * DEVICE_STATE if the device can be saved, and CONFIG and BACKEND_REQ if the device has a
 * configuration. BACKEND_REQ lets the device tell the driver that the configuration has changed.
 * QEMU's vhost-user-vsock reads the guest's CID by CONFIG, and the tag of vhost-user-fs is QEMU's
 * own. A queue that the front end never starts is never served; for example, QEMU serves the event
 * queue of vsock itself.
 *
 * A queue runs from SET_VRING_KICK to GET_VRING_BASE. If it is started once more, it continues with
 * the request at which it stopped. The device's reset() is called for RESET_DEVICE and at the end,
 * but not when its queues stop, so that the connections of a paused guest stay. Devices that hold
 * requests between calls of serve() must have ops->quiesce.
 *
 * If a hostile guest or front end breaks the rules, the connection ends, so there is no device left
 * to reset.
 */
#pragma once
#include "vm/virtio/device.h"

/*
 * Serves the device until the front end closes the socket or stop_fd (-EBADF: none) becomes
 * readable, and then returns 0. Returns -EPROTO if the front end or the driver broke the rules,
 * with a message that says how; other errors come from the host. The calling thread waits for the
 * socket, the kicks and d->event_fd; other threads that use the device must hold its lock. `sock`
 * is a connected Unix socket of type SOCK_STREAM, which the caller closes. The function may be
 * called again with another socket.
 */
int vhost_serve(struct virtio_device *d, int sock, int stop_fd) must_check;

/*
 * Serves the device like vhost_serve(), and takes messages from a second socket too. The process at
 * its other end carries the device's state for a front end that cannot do so (vm/vhost/carry.h).
 * That process may end before the front end.
 */
int vhost_serve_carried(struct virtio_device *d, int sock, int carrier) must_check;

/*
 * vhost_open(), vhost_continue() and vhost_close() together do what vhost_serve() does, for a
 * caller that serves one connection with pauses, perhaps in different threads. vhost_continue()
 * returns as vhost_serve() does. If it has returned because stop_fd was readable, it may be called
 * again. The device must not be released before vhost_close().
 */
struct vhost_backend;
int vhost_open(struct virtio_device *d, int sock, struct vhost_backend **ret) must_check;
int vhost_continue(struct vhost_backend *b, int stop_fd) must_check;
void vhost_close(struct vhost_backend *b);

/* Where the rings of a queue are in guest memory. */
struct vhost_rings {
	uint64_t desc, avail, used;
	uint16_t size;
};

/*
 * These functions are for a device that goes on at a new front end, which does not know where the
 * device has stopped. vhost_keep_base() makes queue `index` begin at the request `base` when it
 * starts next, whatever the front end says, and the front end cannot reset the device before that.
 * vhost_adopt() makes the back end serve a queue that the front end never starts, from the time at
 * which guest memory is known. The front end of this queue must not use it meanwhile.
 */
int vhost_keep_base(struct vhost_backend *b, unsigned index, uint32_t base) must_check;
void vhost_adopt(struct vhost_backend *b, unsigned index, const struct vhost_rings *rings);

/*
 * Serves the device like vhost_serve(), but each queue in a thread of its own, which this function
 * starts and ends. The calling thread only handles messages. So ops->serve() runs for several
 * queues at a time, without the device's lock; no other function of the device runs meanwhile: the
 * threads are paused while ops->event() runs.
 */
int vhost_serve_threads(struct virtio_device *d, int sock, int stop_fd) must_check;
