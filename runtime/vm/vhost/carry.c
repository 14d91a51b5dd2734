/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/vhost/carry.h"

#include "vm/vhost/front_messages.h"

/* Begins messages to the back end, whose features are asked for again. */
static int begin(struct vhost_user *v, int sock, const char *peer)
{
	/* A configuration of no bytes keeps the front end from asking for one. */
	const struct vhost_user_options o = {.config = "", .owned = true};

	*v = (struct vhost_user){.sock = sock,
		.peer = peer,
		.timeout_ms = VHOST_USER_TIMEOUT_MS,
		.inflight = -EBADF};
	vhost_front_begin(v);
	int r = vhost_front_negotiate(v, &o);
	if (r >= 0 && !(v->protocol & 1ULL << VHOST_USER_PROTOCOL_F_DEVICE_STATE))
		r = err_set(ENOTSUP, "it cannot save its state");
	return r;
}

int vhost_carry_out(int sock, const char *peer, struct strbuf *ret, uint64_t *ret_features)
{
	struct vhost_user v;
	int r = begin(&v, sock, peer);

	if (r >= 0)
		r = vhost_front_ask_u64(&v, VHOST_USER_GET_DRIVER_FEATURES, ret_features);
	if (r >= 0)
		r = vhost_front_read_state(&v, ret);
	return r < 0 ? err_ctx(r, "%s", peer) : 0;
}

int vhost_carry_in(int sock, const char *peer, const void *state, size_t len)
{
	struct vhost_user v;
	int r = begin(&v, sock, peer);

	if (r >= 0)
		r = vhost_front_write_state(&v, state, len);
	return r < 0 ? err_ctx(r, "%s", peer) : 0;
}

int vhost_carry_bases(int sock, const char *peer, const int *bases, unsigned count)
{
	struct vhost_user v;
	int r = begin(&v, sock, peer);

	for (unsigned i = 0; r >= 0 && i < count; i++)
		if (bases[i] >= 0)
			r = vhost_front_tell_state(
				&v, VHOST_USER_KEEP_VRING_BASE, i, (uint32_t)bases[i]);
	return r < 0 ? err_ctx(r, "%s", peer) : 0;
}
