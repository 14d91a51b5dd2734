/* SPDX-License-Identifier: Apache-2.0 */
/* A driver in plain memory for one virtio device: registers over the bus, rings by hand. No KVM. */
#pragma once
#include <linux/virtio_mmio.h>
#include <string.h>

#include "base/str.h"
#include "vm/virtio/devices.h"
#include "vm/virtio/mmio.h"

#define RIG_RAM (UINT64_C(4) << 20)
#define RIG_SIZE 8
#define DESC(i) (0x10000 + (i)*0x10000UL)
#define AVAIL(i) (DESC(i) + 0x4000)
#define USED(i) (DESC(i) + 0x8000)
#define DATA 0x100000

struct rig {
	struct vm_memory memory;
	struct vm_bus bus;
	struct virtio_mmio mmio;
	struct virtio_device *dev;
	unsigned interrupts;
	uint16_t size;
};

static inline void rig_raise(void *irq)
{
	(*(unsigned *)irq)++;
}

static inline void rig_memory(struct rig *g)
{
	*g = (struct rig){.size = RIG_SIZE};
	if (vm_memory_init(&g->memory, &(struct vm_memory_options){.size = RIG_RAM}) < 0)
		abort();
}

static inline void rig_attach(struct rig *g, struct virtio_device *dev)
{
	g->dev = dev;
	virtio_mmio_init(&g->mmio, dev, rig_raise, &g->interrupts);
	if (vm_bus_add(&g->bus, &(struct vm_bus_entry){0, VIRTIO_MMIO_LEN, "virtio",
					&virtio_mmio_bus, &g->mmio}) < 0)
		abort();
}

static inline void rig_release(struct rig *g)
{
	virtio_release(g->dev);
	vm_memory_release(&g->memory);
}

static inline uint32_t get(struct rig *g, uint64_t offset)
{
	uint32_t v;

	vm_bus_read(&g->bus, offset, &v, 4);
	return v;
}

static inline void set(struct rig *g, uint64_t offset, uint32_t v)
{
	vm_bus_write(&g->bus, offset, &v, 4);
}

static inline void set_queue(
	struct rig *g, unsigned i, uint64_t desc, uint64_t avail, uint64_t used)
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

/* Reset, then all that a driver does up to FEATURES_OK; true if the device took the features. */
static inline bool negotiate(struct rig *g, uint64_t features)
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

#define V1 (1ULL << VIRTIO_F_VERSION_1)
#define EVENT (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (1ULL << VIRTIO_RING_F_INDIRECT_DESC)

static inline void *at(struct rig *g, uint64_t guest, uint64_t len)
{
	void *p = vm_memory_at(&g->memory, guest, len);

	if (!p)
		abort();
	return p;
}

/* Up to DRIVER_OK with empty rings. */
static inline void bring_up(struct rig *g, uint64_t features)
{
	if (!negotiate(g, V1 | features))
		abort();
	for (unsigned i = 0; i < g->dev->queue_count; i++) {
		memset(at(g, DESC(i), 0x10000), 0, 0x10000);
		set_queue(g, i, DESC(i), AVAIL(i), USED(i));
	}
	set(g, VIRTIO_MMIO_STATUS, 15);
}

static inline struct vring_desc *desc(struct rig *g, unsigned q, unsigned i)
{
	return (struct vring_desc *)at(g, DESC(q) + 16UL * i, 16);
}

static inline struct vring_avail *avail(struct rig *g, unsigned q)
{
	return at(g, AVAIL(q), 1024);
}

static inline struct vring_used *used(struct rig *g, unsigned q)
{
	return at(g, USED(q), 4096);
}

#define NEXT VRING_DESC_F_NEXT
#define WRITE VRING_DESC_F_WRITE
#define TABLE VRING_DESC_F_INDIRECT

static inline void put_desc(
	struct vring_desc *d, uint64_t addr, uint32_t len, unsigned flags, unsigned next)
{
	*d = (struct vring_desc){addr, len, (uint16_t)flags, (uint16_t)next};
}

static inline void offer(struct rig *g, unsigned q, unsigned head)
{
	struct vring_avail *a = avail(g, q);

	a->ring[a->idx % g->size] = (uint16_t)head;
	a->idx++;
}

static inline void kick(struct rig *g, unsigned q)
{
	set(g, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}

static inline bool is_broken(struct rig *g)
{
	return get(g, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}
