/* SPDX-License-Identifier: Apache-2.0 */
/* Keeps the table of the vsock device's connections. */
#include "vm/virtio/vsock.h"

struct vsock_conn *vsock_find_conn(const struct virtio_vsock *v, uint32_t guest_port, uint32_t port)
{
	for (unsigned i = 0; i < v->count; i++) {
		struct vsock_conn *c = v->conns[i];

		if (c->port == port && c->guest_port == guest_port && c->state != VSOCK_FORGOTTEN)
			return c;
	}
	return NULL;
}

int vsock_add_conn(struct virtio_vsock *v, int fd, unsigned use, struct vsock_conn **ret)
{
	int r = vsock_conn_new(ret, fd, use, v->dev.event_fd);

	if (r < 0)
		return r;
	bool large = v->large < VSOCK_LARGE_MAX;
	v->large += large;
	(*ret)->size = large ? VSOCK_CREDIT : VSOCK_CREDIT_SMALL;
	v->conns[v->count++] = *ret;
	return 0;
}

void vsock_settle_conn(struct virtio_vsock *v, struct vsock_conn *c)
{
	if (c->stream.fd < 0 && !c->told_closed) {
		c->told_closed = true;
		if (v->options.closed)
			v->options.closed(v->options.ctx, c->guest_port, c->port);
	}
	if (!vsock_conn_is_gone(c))
		return;
	for (unsigned i = 0; i < v->count; i++) {
		if (v->conns[i] == c) {
			v->conns[i] = v->conns[--v->count];
			break;
		}
	}
	v->large -= c->size == VSOCK_CREDIT;
	vsock_conn_free(c);
}
