/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages of vhost-user as the back end receives and answers them: lengths and descriptors are
 * checked here, meanings in back.c.
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
 * Waits for one message. 1: *ret has it, also its descriptors, for vhost_message_release(). 0: the
 * front end has closed the socket. -ECANCELED, without a message: stop_fd became readable. -EPROTO,
 * or a system error. ret is to be released in each case.
 */
int vhost_receive(int sock, int stop_fd, struct vhost_message *ret) must_check;
/*
 * The same for who only hands messages on: any request, or reply, of any length that a payload may
 * have, and with descriptors or not.
 */
int vhost_receive_any(int sock, int stop_fd, struct vhost_message *ret) must_check;
void vhost_message_release(struct vhost_message *m);

/* Sends *m as it is, with its descriptors, which stay the caller's. */
int vhost_forward(int sock, const struct vhost_message *m) must_check;

/* Answers request `m` with the first len bytes of its payload. */
int vhost_reply(int sock, const struct vhost_message *m, uint32_t len) must_check;
