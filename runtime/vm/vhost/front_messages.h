/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends the vhost-user messages of a front end. Each function sends a whole message and waits for
 * its answer, within the time limit that vhost_front_begin() has started. Errors have a message;
 * -EPIPE and -ECONNRESET mean that the back end has hung up.
 */
#pragma once
#include <stddef.h>

#include "base/str.h"
#include "vm/vhost/front.h"

struct vhost_front_message {
	/* padding that aligns the payload and makes it follow the header without a gap */
	uint32_t unused;
	struct vhost_user_header h;
	union vhost_user_payload p;
};

_Static_assert(offsetof(struct vhost_front_message, p) ==
		       offsetof(struct vhost_front_message, h) + sizeof(struct vhost_user_header),
	"as on the wire");

/*
 * Starts the time limit, which holds for all messages together until the next call of this
 * function.
 */
void vhost_front_begin(struct vhost_user *v);

int vhost_front_send(const struct vhost_user *v, const struct vhost_front_message *m,
	const int *fds, unsigned count) must_check;
/*
 * Receives into *m the answer to request m->h.request, with a payload of exactly `size` bytes. If a
 * descriptor may come with the answer, *ret_fd must be -EBADF before the call and then gets it;
 * otherwise ret_fd is NULL.
 */
int vhost_front_receive(const struct vhost_user *v, struct vhost_front_message *m, uint32_t size,
	int *ret_fd) must_check;

/*
 * Sends the request *m and receives its answer, which replaces *m and has a payload of `answer`
 * bytes.
 */
int vhost_front_ask(const struct vhost_user *v, struct vhost_front_message *m, uint32_t answer)
	must_check;
int vhost_front_ask_u64(const struct vhost_user *v, uint32_t request, uint64_t *ret) must_check;

/*
 * Sends a request to which vhost-user defines no reply. If the back end supports REPLY_ACK, the
 * back end has carried the request out when this function returns 0.
 */
int vhost_front_tell(const struct vhost_user *v, struct vhost_front_message *m, const int *fds,
	unsigned count) must_check;
int vhost_front_tell_u64(const struct vhost_user *v, uint32_t request, uint64_t value, int fd)
	must_check;
int vhost_front_tell_state(
	const struct vhost_user *v, uint32_t request, uint32_t index, uint32_t num) must_check;

/*
 * This function of front_negotiate.c agrees with the back end on features, and reads the
 * configuration from the back end if `o` has none.
 */
int vhost_front_negotiate(struct vhost_user *v, const struct vhost_user_options *o) must_check;

/*
 * These functions of front_state.c, members of struct virtio_ops, read the back end's own state, or
 * give the back end a state that was read before. All queues must be stopped.
 */
int vhost_front_save(struct virtio_device *d, struct snapshot_writer *w) must_check;
int vhost_front_load(struct virtio_device *d, struct snapshot_part *p) must_check;
/* These functions move the state alone, after vhost_front_begin(). */
int vhost_front_read_state(const struct vhost_user *v, struct strbuf *ret) must_check;
int vhost_front_write_state(const struct vhost_user *v, const void *state, size_t len) must_check;
