/* SPDX-License-Identifier: Apache-2.0 */
/* Handles the requests of a front end that concern the device's configuration. */
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>

#include "vm/vhost/back_requests.h"

/*
 * Tells the front end that the configuration has changed. A front end without the socket for such
 * requests learns of the change otherwise or not at all.
 */
void vhost_signal_config(const struct vhost_backend *b)
{
	const struct vhost_user_header h = {
		VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, VHOST_USER_VERSION, 0};

	/*
	 * Ignores an error, because the front end has given a wrong socket or does not read from
	 * it, and then only its own guest misses the change.
	 */
	if (b->requests >= 0)
		(void)!send(b->requests, &h, sizeof(h), MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Answers GET_CONFIG. For an invalid range the protocol wants an answer without payload. */
int vhost_get_config(const struct vhost_backend *b, struct vhost_message *m)
{
	const struct virtio_device *d = b->device;
	struct vhost_user_config *c = &m->p.config;

	if (c->offset > d->config_len || c->size > d->config_len - c->offset ||
		c->size > VHOST_USER_CONFIG_MAX) {
		m->h.size = 0;
		return 0;
	}
	memcpy(c->data, (const uint8_t *)d->config + c->offset, c->size);
	m->h.size = VHOST_USER_CONFIG_HEAD + c->size;
	return 0;
}

int vhost_set_request_socket(struct vhost_backend *b, struct vhost_message *m)
{
	if (m->fd_count != 1)
		return err_set(EPROTO,
			"vhost-user: SET_BACKEND_REQ_FD with %u descriptors, expected one",
			m->fd_count);
	fd_close(&b->requests);
	b->requests = take_fd(&m->fds[0]);
	return 0;
}

int vhost_set_config(struct vhost_backend *b, const struct vhost_message *m)
{
	struct virtio_device *d = b->device;
	const struct vhost_user_config *c = &m->p.config;

	if (c->size > m->h.size - VHOST_USER_CONFIG_HEAD || c->offset > d->config_len ||
		c->size > d->config_len - c->offset)
		return err_set(EPROTO,
			"vhost-user: %" PRIu32 " bytes at %" PRIu32
			" of the configuration in a payload of %" PRIu32
			": expected bytes of the payload and of the "
			"configuration, which has %" PRIu32,
			c->size, c->offset, m->h.size, d->config_len);
	/*
	 * A device without the callback configure() has a read-only configuration, and ignores the
	 * write as a real register would do.
	 */
	if (!d->ops->configure)
		return 0;
	d->ops->configure(d, c->offset, c->data, c->size);
	/*
	 * Serves each queue once more, because after a change of the configuration a device may
	 * leave work that takes long, such as a flush, to its serve().
	 */
	for (unsigned i = 0; i < d->queue_count; i++)
		b->queues[i].more |= d->queues[i].ready;
	return 0;
}
