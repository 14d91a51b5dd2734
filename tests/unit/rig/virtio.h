/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A driver for one virtio device, without KVM. It accesses the device's registers over the bus of
 * the machine and fills the rings in plain memory.
 */
#pragma once
#include <linux/virtio_mmio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/virtio/blk_file.h"
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

void rig_memory(struct rig *g);
/* Also makes a hot region of `hot` bytes, for a memory device. */
void rig_memory_with(struct rig *g, uint64_t hot);
void rig_attach(struct rig *g, struct virtio_device *dev);

static inline void rig_release(struct rig *g)
{
	virtio_release(g->dev);
	vm_memory_release(&g->memory);
}

uint32_t get(struct rig *g, uint64_t offset);

static inline void set(struct rig *g, uint64_t offset, uint32_t v)
{
	vm_bus_write(&g->bus, offset, &v, 4);
}

void set_queue(struct rig *g, unsigned i, uint64_t desc, uint64_t avail, uint64_t used);

/*
 * Resets the device and goes through a driver's initialisation up to the status FEATURES_OK.
 * Returns true if the device accepted the features.
 */
bool negotiate(struct rig *g, uint64_t features);

#define V1 (1ULL << VIRTIO_F_VERSION_1)
#define EVENT (1ULL << VIRTIO_RING_F_EVENT_IDX)
#define INDIRECT (1ULL << VIRTIO_RING_F_INDIRECT_DESC)

void *at(struct rig *g, uint64_t guest, uint64_t len);

/* Resets the device and brings it up to the status DRIVER_OK with empty rings. */
void bring_up(struct rig *g, uint64_t features);

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

void offer(struct rig *g, unsigned q, unsigned head);

static inline void kick(struct rig *g, unsigned q)
{
	set(g, VIRTIO_MMIO_QUEUE_NOTIFY, q);
}

static inline bool is_broken(struct rig *g)
{
	return get(g, VIRTIO_MMIO_STATUS) & VIRTIO_CONFIG_S_NEEDS_RESET;
}
