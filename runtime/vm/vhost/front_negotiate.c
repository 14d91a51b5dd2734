/* SPDX-License-Identifier: Apache-2.0 */
/* Agrees with a back end on features, and reads its configuration. */
#include <inttypes.h>
#include <string.h>

#include "vm/vhost/front_messages.h"

#define BIT(n) (UINT64_C(1) << (n))
#define WANTED_PROTOCOL \
	(BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | \
		BIT(VHOST_USER_PROTOCOL_F_CONFIG) | BIT(VHOST_USER_PROTOCOL_F_DEVICE_STATE))

/*
 * Reads from the back end, with GET_CONFIG, the `len` bytes of configuration that the driver can
 * read.
 */
static int fetch_config(struct vhost_user *v, uint32_t len)
{
	struct vhost_front_message m = {
		.h = {VHOST_USER_GET_CONFIG, 0, VHOST_USER_CONFIG_HEAD + len},
		.p.config.size = len};

	if (!(v->protocol & BIT(VHOST_USER_PROTOCOL_F_CONFIG)))
		return err_set(EPROTO, "it does not offer the protocol feature CONFIG (bit %d)",
			VHOST_USER_PROTOCOL_F_CONFIG);
	int r = vhost_front_ask(v, &m, VHOST_USER_CONFIG_HEAD + len);
	if (r < 0)
		return r;
	if (m.p.config.offset != 0 || m.p.config.size != len)
		return err_set(EPROTO,
			"GET_CONFIG answers with %" PRIu32 " bytes at %" PRIu32
			": expected %" PRIu32 " at 0",
			m.p.config.size, m.p.config.offset, len);
	memcpy(v->config, m.p.config.data, len);
	return 0;
}

static int ask_features(struct vhost_user *v)
{
	int r = vhost_front_ask_u64(v, VHOST_USER_GET_FEATURES, &v->offered);

	if (r >= 0 && !(v->offered & BIT(VIRTIO_F_VERSION_1)))
		r = err_set(EPROTO,
			"it offers the features 0x%" PRIx64
			": expected VIRTIO_F_VERSION_1 (bit %d) among them",
			v->offered, VIRTIO_F_VERSION_1);
	return r;
}

int vhost_user_probe(int sock, const char *peer, unsigned timeout_ms)
{
	struct vhost_user v = {.sock = sock, .timeout_ms = timeout_ms};

	vhost_front_begin(&v);
	int r = ask_features(&v);
	return r < 0 ? err_ctx(r, "%s: the vhost-user back end", peer) : 0;
}

int vhost_front_negotiate(struct vhost_user *v, const struct vhost_user_options *o)
{
	struct vhost_front_message owner = {.h.request = VHOST_USER_SET_OWNER};
	const unsigned needed = v->pairs ? o->queue_count / 2 : o->queue_count;
	uint64_t queues = needed;

	v->protocol = 0;
	int r = o->owned ? 0 : vhost_front_tell(v, &owner, NULL, 0);

	if (r >= 0)
		r = ask_features(v);
	if (r >= 0 && (v->offered & BIT(VHOST_USER_F_PROTOCOL_FEATURES))) {
		uint64_t protocol = 0;

		r = vhost_front_ask_u64(v, VHOST_USER_GET_PROTOCOL_FEATURES, &protocol);
		protocol &= WANTED_PROTOCOL |
			    (o->reconnect ? BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) : 0);
		if (r >= 0)
			r = vhost_front_tell_u64(
				v, VHOST_USER_SET_PROTOCOL_FEATURES, protocol, -EBADF);
		/*
		 * Stores the protocol features only now, because the back end acknowledges messages
		 * (REPLY_ACK) only from the next one on.
		 */
		v->protocol = protocol;
	}
	if (r >= 0 && (v->protocol & BIT(VHOST_USER_PROTOCOL_F_MQ)))
		r = vhost_front_ask_u64(v, VHOST_USER_GET_QUEUE_NUM, &queues);
	if (r >= 0 && o->reconnect && !(v->protocol & BIT(VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)))
		r = err_set(EPROTO,
			"it does not offer the protocol feature INFLIGHT_SHMFD (bit %d), without "
			"which a new connection would lose requests",
			VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD);
	if (r >= 0 && queues < needed)
		r = err_set(EPROTO, "it has %" PRIu64 " %s: the device needs %u", queues,
			v->pairs ? "pairs of queues" : "queues", needed);
	if (r >= 0 && !o->config && o->config_len > 0)
		r = fetch_config(v, o->config_len);
	return r;
}

int vhost_user_reload(struct vhost_user *v)
{
	uint8_t before[sizeof(v->config)];
	int r = 0;

	pthread_mutex_lock(&v->dev.lock);
	memcpy(before, v->config, sizeof(before));
	if (v->failed || v->gone)
		r = err_set(EPIPE, "%s: it has hung up", v->peer);
	if (r >= 0) {
		vhost_front_begin(v);
		r = err_ctx(fetch_config(v, v->dev.config_len), "%s", v->peer);
	}
	if (r >= 0 && memcmp(before, v->config, sizeof(before)) != 0)
		virtio_config_changed(&v->dev);
	pthread_mutex_unlock(&v->dev.lock);
	return r;
}
