/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/virtio.h"

void rig_memory_with(struct rig *g, uint64_t hot)
{
	*g = (struct rig){.size = RIG_SIZE};
	if (vm_memory_init(&g->memory, &(struct vm_memory_options){.size = RIG_RAM, .hot = hot}) <
		0)
		abort();
}

void rig_memory(struct rig *g)
{
	rig_memory_with(g, 0);
}

void rig_attach(struct rig *g, struct virtio_device *dev)
{
	g->dev = dev;
	virtio_mmio_init(&g->mmio, dev, rig_raise, &g->interrupts);
	if (vm_bus_add(&g->bus, &(struct vm_bus_entry){0, VIRTIO_MMIO_LEN, "virtio",
					&virtio_mmio_bus, &g->mmio}) < 0)
		abort();
}

uint32_t get(struct rig *g, uint64_t offset)
{
	uint32_t v;

	vm_bus_read(&g->bus, offset, &v, 4);
	return v;
}

void set_queue(struct rig *g, unsigned i, uint64_t desc, uint64_t avail, uint64_t used)
{
	set(g, VIRTIO_MMIO_QUEUE_SEL, i);
	set(g, VIRTIO_MMIO_QUEUE_NUM, g->size);
	set(g, VIRTIO_MMIO_QUEUE_DESC_LOW, (uint32_t)desc);
	set(g, VIRTIO_MMIO_QUEUE_DESC_HIGH, (uint32_t)(desc >> 32));
	set(g, VIRTIO_MMIO_QUEUE_AVAIL_LOW, (uint32_t)avail);
	set(g, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, (uint32_t)(avail >> 32));
	set(g, VIRTIO_MMIO_QUEUE_USED_LOW, (uint32_t)used);
	set(g, VIRTIO_MMIO_QUEUE_USED_HIGH, (uint32_t)(used >> 32));
	set(g, VIRTIO_MMIO_QUEUE_READY, 1);
}

bool negotiate(struct rig *g, uint64_t features)
{
	set(g, VIRTIO_MMIO_STATUS, 0);
	set(g, VIRTIO_MMIO_STATUS, 1);
	set(g, VIRTIO_MMIO_STATUS, 3);
	set(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 0);
	set(g, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)features);
	set(g, VIRTIO_MMIO_DRIVER_FEATURES_SEL, 1);
	set(g, VIRTIO_MMIO_DRIVER_FEATURES, (uint32_t)(features >> 32));
	set(g, VIRTIO_MMIO_STATUS, 11);
	return get(g, VIRTIO_MMIO_STATUS) == 11;
}

void *at(struct rig *g, uint64_t guest, uint64_t len)
{
	void *p = vm_memory_at(&g->memory, guest, len);

	if (!p)
		abort();
	return p;
}

void bring_up(struct rig *g, uint64_t features)
{
	if (!negotiate(g, V1 | features))
		abort();
	for (unsigned i = 0; i < g->dev->queue_count; i++) {
		memset(at(g, DESC(i), 0x10000), 0, 0x10000);
		set_queue(g, i, DESC(i), AVAIL(i), USED(i));
	}
	set(g, VIRTIO_MMIO_STATUS, 15);
}

void offer(struct rig *g, unsigned q, unsigned head)
{
	struct vring_avail *a = avail(g, q);

	a->ring[a->idx % g->size] = (uint16_t)head;
	a->idx++;
}
