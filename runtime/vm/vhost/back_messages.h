/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the back end receives and answers messages of vhost-user. Lengths and descriptors are checked
 * here, and what a message means in back_requests.c.
 */
#pragma once
#include "base/fd.h"
#include "vm/vhost/proto.h"

struct vhost_message {
	struct vhost_user_header h;
	union vhost_user_payload p;
	int fds[VHOST_USER_REGIONS_MAX];
	unsigned fd_count;
};

/*
 * Waits for one message. 1: *ret holds it with its descriptors. 0: the front end has closed the
 * socket. -ECANCELED, without a message: stop_fd became readable. -EPROTO, or a system error. The
 * caller has to call vhost_message_release() in each case.
 */
int vhost_receive(int sock, int stop_fd, struct vhost_message *ret) must_check;
/*
 * Does the same for a process that only forwards messages: it takes any request or answer, of any
 * length up to that of a payload, with or without descriptors.
 */
int vhost_receive_any(int sock, int stop_fd, struct vhost_message *ret) must_check;
void vhost_message_release(struct vhost_message *m);

/* Sends *m as it is, with its descriptors, which stay the caller's. */
int vhost_forward(int sock, const struct vhost_message *m) must_check;

/* Answers the request *m with the first `len` bytes of its payload. */
int vhost_reply(int sock, const struct vhost_message *m, uint32_t len) must_check;
