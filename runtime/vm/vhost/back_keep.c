/* SPDX-License-Identifier: Apache-2.0 */
/* Lets a device go on at a new front end that does not know where the device has stopped. */
#include <inttypes.h>

#include "vm/vhost/back_requests.h"

int vhost_keep_base(struct vhost_backend *b, unsigned index, uint32_t base)
{
	if (index >= b->device->queue_count || b->queues[index].started || base > UINT16_MAX)
		return err_set(EPROTO,
			"vhost-user: queue %u keeps the index %" PRIu32
			": expected a stopped queue and 16 bits",
			index, base);
	b->queues[index].base = (uint16_t)base;
	b->queues[index].keeps_base = true;
	return 0;
}

void vhost_adopt(struct vhost_backend *b, unsigned index, const struct vhost_rings *rings)
{
	pthread_mutex_lock(&b->device->lock);
	b->queues[index].rings = *rings;
	b->queues[index].adopted = true;
	pthread_mutex_unlock(&b->device->lock);
}

bool vhost_keeps_place(const struct vhost_backend *b)
{
	for (unsigned i = 0; i < b->device->queue_count; i++)
		if (b->queues[i].keeps_base)
			return true;
	return false;
}

int vhost_place_adopted(struct vhost_backend *b, unsigned i)
{
	const struct vhost_rings *rings = &b->queues[i].rings;
	struct virtq *q = &b->device->queues[i];

	q->desc_at = rings->desc;
	q->avail_at = rings->avail;
	q->used_at = rings->used;
	q->size = rings->size;
	int r = virtq_resume(q, &b->memory, 0);
	q->next_avail = q->next_used;
	return r;
}
