/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The messages of front.c: sent whole, answered within the time that talk_begin() has set, or
 * an error with a message: -EPIPE and -ECONNRESET where the back end has hung up.
 */
#pragma once
#include <stddef.h>

#include "vm/vhost/front.h"

struct talk_message {
	uint32_t unused; /* so that the payload is aligned and right behind the header */
	struct vhost_user_header h;
	union vhost_user_payload p;
};

_Static_assert(offsetof(struct talk_message, p) ==
		       offsetof(struct talk_message, h) + sizeof(struct vhost_user_header),
	"as on the wire");

/* What follows is to be done, all of it, within the time limit. */
void talk_begin(struct vhost_user *v);

int talk_send(const struct vhost_user *v, const struct talk_message *m, const int *fds,
	unsigned count) must_check;
/*
 * Receives the answer to m->h.request, of `size` bytes exactly, into m. ret_fd, -EBADF: where a
 * descriptor may come with it.
 */
int talk_receive(const struct vhost_user *v, struct talk_message *m, uint32_t size, int *ret_fd)
	must_check;

/* A request with an answer of its own, which takes its place in *m. */
int talk_ask(const struct vhost_user *v, struct talk_message *m, uint32_t answer) must_check;
int talk_ask_u64(const struct vhost_user *v, uint32_t request, uint64_t *ret) must_check;

/* A request without one, done when this returns 0 if the back end knows REPLY_ACK. */
int talk_tell(const struct vhost_user *v, struct talk_message *m, const int *fds, unsigned count)
	must_check;
int talk_tell_u64(const struct vhost_user *v, uint32_t request, uint64_t value, int fd) must_check;
int talk_tell_state(const struct vhost_user *v, uint32_t request, uint32_t index, uint32_t num)
	must_check;
