/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of front.c. Each function sends a whole message and waits for its answer, within the
 * time limit that vhost_front_begin() has set. Errors have a message; -EPIPE and -ECONNRESET mean
 * that the back end has hung up.
 */
#pragma once
#include <stddef.h>

#include "vm/vhost/front.h"

struct vhost_front_message {
	uint32_t unused; /* makes the payload aligned and adjacent to the header */
	struct vhost_user_header h;
	union vhost_user_payload p;
};

_Static_assert(offsetof(struct vhost_front_message, p) ==
		       offsetof(struct vhost_front_message, h) + sizeof(struct vhost_user_header),
	"as on the wire");

/* Starts the time limit for all messages until the next call. */
void vhost_front_begin(struct vhost_user *v);

int vhost_front_send(const struct vhost_user *v, const struct vhost_front_message *m,
	const int *fds, unsigned count) must_check;
/*
 * Receives the answer to m->h.request, of exactly `size` bytes, into *m. ret_fd: NULL, or -EBADF
 * before the call, if a descriptor may come with the answer.
 */
int vhost_front_receive(const struct vhost_user *v, struct vhost_front_message *m, uint32_t size,
	int *ret_fd) must_check;

/* Sends a request that has an answer of its own, which replaces *m. */
int vhost_front_ask(const struct vhost_user *v, struct vhost_front_message *m, uint32_t answer)
	must_check;
int vhost_front_ask_u64(const struct vhost_user *v, uint32_t request, uint64_t *ret) must_check;

/*
 * Sends a request without an answer. If the back end knows REPLY_ACK, it has done the request when
 * this returns 0.
 */
int vhost_front_tell(const struct vhost_user *v, struct vhost_front_message *m, const int *fds,
	unsigned count) must_check;
int vhost_front_tell_u64(const struct vhost_user *v, uint32_t request, uint64_t value, int fd)
	must_check;
int vhost_front_tell_state(
	const struct vhost_user *v, uint32_t request, uint32_t index, uint32_t num) must_check;
