/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/virtio/device.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define S_ACKNOWLEDGE VIRTIO_CONFIG_S_ACKNOWLEDGE
#define S_DRIVER VIRTIO_CONFIG_S_DRIVER
#define S_FEATURES_OK VIRTIO_CONFIG_S_FEATURES_OK
#define S_DRIVER_OK VIRTIO_CONFIG_S_DRIVER_OK
#define S_NEEDS_RESET VIRTIO_CONFIG_S_NEEDS_RESET
#define S_FAILED VIRTIO_CONFIG_S_FAILED
#define S_KNOWN (S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK | S_FAILED)

uint64_t virtio_offered(const struct virtio_device *d)
{
	return (d->features | VIRTIO_COMMON_FEATURES) & ~d->withheld;
}

static bool has_feature(const struct virtio_device *d, unsigned feature)
{
	return d->driver_features >> feature & 1;
}

void virtio_init(struct virtio_device *d, const struct vm_memory *m)
{
	d->memory = m;
	d->event_fd = -EBADF;
	pthread_mutex_init(&d->lock, NULL);
}

void virtio_release(struct virtio_device *d)
{
	pthread_mutex_destroy(&d->lock);
}

static void reset_device(struct virtio_device *d)
{
	if (d->ops->reset)
		d->ops->reset(d);
	for (unsigned i = 0; i < VIRTIO_QUEUES_MAX; i++)
		virtq_reset(&d->queues[i]);
	d->status = 0;
	d->driver_features = 0;
}

void virtio_apply_features(const struct virtio_device *d, struct virtq *q)
{
	q->event_idx = has_feature(d, VIRTIO_RING_F_EVENT_IDX);
	q->indirect = has_feature(d, VIRTIO_RING_F_INDIRECT_DESC);
}

void virtio_set_status(struct virtio_device *d, uint32_t status)
{
	if (status == 0) {
		reset_device(d);
		return;
	}
	/*
	 * Ignores a status that clears a bit, because drivers may only add bits and only the device
	 * sets NEEDS_RESET.
	 */
	uint32_t needs_reset = d->status & S_NEEDS_RESET;
	uint32_t old = d->status & ~S_NEEDS_RESET;
	status &= ~S_NEEDS_RESET;
	if ((status & old) != old || (status & ~S_KNOWN))
		return;
	if ((status & S_DRIVER) && !(status & S_ACKNOWLEDGE))
		return;
	/*
	 * FEATURES_OK stays clear if the accepted features are not valid (virtio 2.2.2). The driver
	 * reads the status back to find that out.
	 */
	if ((status & ~old & S_FEATURES_OK) &&
		(!(status & S_DRIVER) || !has_feature(d, VIRTIO_F_VERSION_1) ||
			(d->driver_features & ~virtio_offered(d))))
		status &= ~S_FEATURES_OK;
	if (!(status & S_FEATURES_OK))
		status &= ~S_DRIVER_OK;
	bool starts = status & ~old & S_DRIVER_OK;
	d->status = status | needs_reset;
	if (starts && d->ops->start && virtio_is_live(d)) {
		int r = d->ops->start(d);
		if (r < 0) {
			err_ctx(r, "%s", d->name);
			virtio_needs_reset(d);
		}
	}
}

void virtio_set_features(struct virtio_device *d, unsigned half, uint32_t bits)
{
	uint64_t mask = UINT64_C(0xffffffff) << (half ? 32 : 0);

	if (!(d->status & S_DRIVER) || (d->status & S_FEATURES_OK))
		return;
	d->driver_features =
		(d->driver_features & ~mask) | (half ? (uint64_t)bits << 32 : (uint64_t)bits);
}

int virtio_accept(struct virtio_device *d, uint64_t features)
{
	if (features & ~virtio_offered(d))
		return err_set(EPROTO, "%s: features 0x%" PRIx64 ", expected some of 0x%" PRIx64,
			d->name, features, virtio_offered(d));
	d->driver_features = features;
	d->status |= S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK;
	for (unsigned i = 0; i < d->queue_count; i++)
		virtio_apply_features(d, &d->queues[i]);
	return 0;
}

uint32_t virtio_features(const struct virtio_device *d, unsigned half)
{
	return (uint32_t)(virtio_offered(d) >> (half ? 32 : 0));
}

struct virtq *virtio_open_queue(struct virtio_device *d, uint32_t index)
{
	const uint32_t frozen = S_DRIVER_OK | S_NEEDS_RESET | S_FAILED;

	if (index >= d->queue_count || !(d->status & S_FEATURES_OK) || (d->status & frozen))
		return NULL;
	return &d->queues[index];
}

void virtio_set_ready(struct virtio_device *d, uint32_t index, bool ready)
{
	struct virtq *q = virtio_open_queue(d, index);

	if (!q || q->ready == ready)
		return;
	if (!ready) {
		q->ready = false;
		return;
	}
	virtio_apply_features(d, q);
	if (err_ctx(virtq_enable(q, d->memory), "%s: queue %u", d->name, index) < 0)
		virtio_needs_reset(d);
}

bool virtio_is_live(const struct virtio_device *d)
{
	return (d->status & (S_DRIVER_OK | S_NEEDS_RESET | S_FAILED)) == S_DRIVER_OK;
}

void virtio_needs_reset(struct virtio_device *d)
{
	if (d->status & S_NEEDS_RESET)
		return;
	snprintf(d->broken, sizeof(d->broken), "%s", err_msg());
	d->resets_needed++;
	d->status |= S_NEEDS_RESET;
	/*
	 * Tells the driver that the device needs a reset, by the interrupt for a changed
	 * configuration (virtio 2.1.2). This is allowed only after DRIVER_OK.
	 */
	if ((d->status & S_DRIVER_OK) && d->signal)
		d->signal(d->transport, VIRTIO_SIGNAL_CONFIG);
}

void virtio_signal_queue(struct virtio_device *d, unsigned index)
{
	if (virtq_must_signal(&d->queues[index]) && d->signal)
		d->signal(d->transport, (int)index);
}

void virtio_config_changed(struct virtio_device *d)
{
	d->generation++;
	if (virtio_is_live(d) && d->signal)
		d->signal(d->transport, VIRTIO_SIGNAL_CONFIG);
}

int virtio_serve_queue(struct virtio_device *d, unsigned index, unsigned budget)
{
	if (!virtio_is_live(d) || !d->queues[index].ready)
		return 0;
	int r = d->ops->serve(d, index, budget);
	return r < 0 ? err_ctx(r, "%s: queue %u", d->name, index) : r;
}

int virtio_kick(struct virtio_device *d, unsigned index)
{
	pthread_mutex_lock(&d->lock);
	int r = index < d->queue_count ? virtio_serve_queue(d, index, d->queues[index].size) : 0;
	if (r < 0) {
		virtio_needs_reset(d);
		r = 0;
	}
	pthread_mutex_unlock(&d->lock);
	return r;
}
