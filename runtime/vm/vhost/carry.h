/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves the state of a back end out of it, and into it, for a front end that cannot do so itself.
 * `sock` is another connection to the back end (vhost_serve_carried()). The front end, QEMU, must
 * not use its own meanwhile. Its device is not there then, so all queues are stopped. Only
 * caisson's own back ends can be carried, because the messages VHOST_USER_GET_DRIVER_FEATURES and
 * VHOST_USER_KEEP_VRING_BASE are caisson's.
 */
#pragma once
#include "base/str.h"
#include "vm/vhost/proto.h"

/*
 * Appends the back end's state to *ret, and sets *ret_features to the features that the driver has
 * accepted. `peer` is the back end's name for error messages.
 */
int vhost_carry_out(int sock, const char *peer, struct strbuf *ret, uint64_t *ret_features)
	must_check;
/* Gives the state to a back end that has just started. */
int vhost_carry_in(int sock, const char *peer, const void *state, size_t len) must_check;
/*
 * Makes queue i begin at the request bases[i] when the front end starts the queue next. A number
 * below 0 means that the guest does not use the queue.
 */
int vhost_carry_bases(int sock, const char *peer, const int *bases, unsigned count) must_check;
