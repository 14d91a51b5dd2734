/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The back end's side of vhost-user (QEMU, docs/interop/vhost-user.rst) as a transport for any
 * struct virtio_device: a monitor, QEMU or caisson itself, keeps the registers and tells over a
 * Unix socket where the guest's memory and the device's queues are; the device is served here.
 *
 *	virtio_XXX_init(&x, NULL)     guest memory comes with the front end
 *	vhost_serve(&x.dev, sock, stop_fd)
 *	virtio_release(&x.dev)
 *
 * Offered: the device's features; protocol features MQ, REPLY_ACK, RESET_DEVICE and, where the
 * device has a configuration, CONFIG (QEMU's vhost-user-vsock reads the guest's CID by it, while
 * the tag of vhost-user-fs is QEMU's own). A queue index that the front end never starts (QEMU
 * keeps vsock's event queue to itself) just never becomes ready.
 *
 * A queue runs from SET_VRING_KICK to GET_VRING_BASE, and goes on where it stopped. The device's
 * reset() is called for RESET_DEVICE and at the end, not when its queues stop: a paused guest's
 * connections stay. Devices that keep requests between calls must have ops->quiesce.
 *
 * What a hostile guest or front end breaks ends the connection: there is no device left to reset.
 */
#pragma once
#include "vm/virtio/device.h"

/*
 * Serves until the front end closes the socket or stop_fd (-EBADF: none) is readable: 0. -EPROTO:
 * the front end or the driver broke the rules, the message says how; other errors are the host's.
 * One thread: this one waits for the socket, kicks and d->event_fd; others of the device's own must
 * hold its lock. `sock`, connected SOCK_STREAM, stays the caller's. May be called again afterwards.
 */
int vhost_serve(struct virtio_device *d, int sock, int stop_fd) must_check;
