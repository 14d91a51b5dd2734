/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The back end of vhost-user (QEMU, docs/interop/vhost-user.rst) as a transport for any struct
 * virtio_device. A monitor, QEMU or caisson itself, keeps the registers, and tells over a Unix
 * socket where the guest's memory and the device's queues are. This process serves the device.
 *
 *	virtio_XXX_init(&x, NULL)     the front end sends the guest memory later
 *	vhost_serve(&x.dev, sock, stop_fd)
 *	virtio_release(&x.dev)
 *
 * It offers the device's features and the protocol features MQ, REPLY_ACK, RESET_DEVICE, and CONFIG
 * if the device has a configuration. QEMU's vhost-user-vsock reads the guest's CID by CONFIG; the
 * tag of vhost-user-fs is QEMU's own. A queue that the front end never starts just never becomes
 * ready; QEMU serves vsock's event queue itself.
 *
 * A queue runs from SET_VRING_KICK to GET_VRING_BASE, and later continues where it stopped. The
 * device's reset() is called for RESET_DEVICE and at the end, but not when its queues stop, so that
 * the connections of a paused guest stay. Devices that keep requests between calls must have
 * ops->quiesce.
 *
 * If a hostile guest or front end breaks the rules, the connection ends, so there is no device left
 * to reset.
 */
#pragma once
#include "vm/virtio/device.h"

/*
 * Serves until the front end closes the socket or stop_fd (-EBADF: none) is readable, and then
 * returns 0. -EPROTO: the front end or the driver broke the rules; the message says how. Other
 * errors are the host's. The calling thread waits for the socket, the kicks and d->event_fd; other
 * threads of the device must hold its lock. `sock`, a connected SOCK_STREAM, stays the caller's.
 * May be called again afterwards.
 */
int vhost_serve(struct virtio_device *d, int sock, int stop_fd) must_check;
