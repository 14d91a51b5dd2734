/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receives and answers the vhost-user messages of a back end. These functions check lengths and
 * descriptors; back_requests.c acts on the contents.
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
 * Waits for one message. Returns 1 with the message and its descriptors in *ret, 0 if the front end
 * has closed the socket, -ECANCELED without an error message if stop_fd became readable, or -EPROTO
 * or another error. The caller has to call vhost_message_release() in each case.
 */
int vhost_receive(int sock, int stop_fd, struct vhost_message *ret) must_check;
/*
 * Waits for one message like vhost_receive(), but for a process that only forwards messages: it
 * accepts any request or answer, with a payload of any length up to the maximum, with or without
 * descriptors.
 */
int vhost_receive_any(int sock, int stop_fd, struct vhost_message *ret) must_check;
void vhost_message_release(struct vhost_message *m);

/* Sends *m unchanged, with its descriptors. The caller still has to close these descriptors. */
int vhost_forward(int sock, const struct vhost_message *m) must_check;

/*
 * Sends the answer to request *m. The payload of the answer is the first `len` bytes of m's
 * payload.
 */
int vhost_reply(int sock, const struct vhost_message *m, uint32_t len) must_check;
