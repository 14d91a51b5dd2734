/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves and loads the state that all virtio devices have. The addresses and indices of the queues
 * come from the guest in the first place, so a hostile snapshot can choose no worse ones than a
 * hostile guest: virtq_load() checks the rings as virtq_enable() does.
 */
#include <inttypes.h>
#include <stdio.h>

#include "vm/virtio/device.h"

struct device_state {
	uint32_t id, queue_count, status, generation;
	uint64_t offered, driver_features;
};

#define S_KNOWN \
	(VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER | VIRTIO_CONFIG_S_FEATURES_OK | \
		VIRTIO_CONFIG_S_DRIVER_OK | VIRTIO_CONFIG_S_NEEDS_RESET | VIRTIO_CONFIG_S_FAILED)

static int save_device(struct virtio_device *d, struct snapshot_writer *w)
{
	const struct device_state s = {d->id, d->queue_count, d->status, d->generation,
		virtio_offered(d), d->driver_features};
	int r = snapshot_put(w, &s, sizeof(s));

	for (unsigned i = 0; i < d->queue_count && r >= 0; i++) {
		if (d->ops->quiesce)
			d->ops->quiesce(d, i);
		r = virtq_save(&d->queues[i], w);
	}
	return r >= 0 && d->ops->save ? d->ops->save(d, w) : r;
}

int virtio_save(struct virtio_device *d, struct snapshot_writer *w)
{
	if (d->remote_queues > 0 && !d->ops->save)
		return err_set(ENOTSUP,
			"%s: another process serves this device, and its state cannot be saved",
			d->name);
	pthread_mutex_lock(&d->lock);
	int r = save_device(d, w);
	pthread_mutex_unlock(&d->lock);
	return r < 0 ? err_ctx(r, "%s", d->name) : 0;
}

void virtio_go_on(struct virtio_device *d)
{
	if (!d->ops->go_on)
		return;
	pthread_mutex_lock(&d->lock);
	d->ops->go_on(d);
	pthread_mutex_unlock(&d->lock);
}

static int check_device(const struct virtio_device *d, const struct device_state *s)
{
	const uint32_t frozen = VIRTIO_CONFIG_S_FEATURES_OK;

	if (s->id != d->id || s->queue_count != d->queue_count)
		return err_set(ENOTSUP,
			"the snapshot has a device of type %" PRIu32 " with %" PRIu32
			" queues here: this machine has type %" PRIu32 " with %u",
			s->id, s->queue_count, d->id, d->queue_count);
	if ((s->status & frozen) && (s->driver_features & ~virtio_offered(d)))
		return err_set(ENOTSUP,
			"the guest uses the features 0x%" PRIx64
			" of the snapshot: this machine does not offer 0x%" PRIx64 " of them",
			s->driver_features, s->driver_features & ~virtio_offered(d));
	if (s->status & ~(uint32_t)S_KNOWN)
		return err_set(
			EBADMSG, "status 0x%" PRIx32 ": expected bits of 0x%x", s->status, S_KNOWN);
	/* No driver can get a device into this state, because virtio_set_status() refuses it. */
	if ((s->status & VIRTIO_CONFIG_S_DRIVER_OK) && !(s->status & frozen))
		return err_set(EBADMSG,
			"status 0x%" PRIx32 ": the driver is ready without features", s->status);
	return 0;
}

static int load_device(struct virtio_device *d, struct snapshot_part *p)
{
	struct device_state s;
	int r = snapshot_get(p, &s, sizeof(s));

	if (r >= 0)
		r = check_device(d, &s);
	if (r < 0)
		return r;
	d->status = s.status;
	d->generation = s.generation;
	d->driver_features = s.driver_features;
	if (s.status & VIRTIO_CONFIG_S_NEEDS_RESET)
		snprintf(d->broken, sizeof(d->broken), "it needed a reset before the snapshot");
	for (unsigned i = 0; i < d->queue_count && r >= 0; i++) {
		virtio_apply_features(d, &d->queues[i]);
		r = virtq_load(&d->queues[i], d->memory, p);
		if (r < 0)
			err_ctx(r, "queue %u", i);
	}
	if (r >= 0 && d->ops->load)
		r = d->ops->load(d, p);
	if (r >= 0)
		r = snapshot_end(p);
	if (r >= 0 && d->ops->start && virtio_is_live(d))
		r = d->ops->start(d);
	return r;
}

int virtio_load(struct virtio_device *d, struct snapshot_part *p)
{
	if (d->remote_queues > 0 && !d->ops->load)
		return err_set(ENOTSUP,
			"%s: another process serves this device, and its state cannot be loaded",
			d->name);
	pthread_mutex_lock(&d->lock);
	int r = load_device(d, p);
	pthread_mutex_unlock(&d->lock);
	return r < 0 ? err_ctx(r, "%s", d->name) : 0;
}
