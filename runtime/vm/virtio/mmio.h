/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-mmio transport, version 2 (virtio 1.2, 4.2): registers of one page on the MMIO bus.
 * All registers are 32 bits wide and aligned; the configuration from 0x100 on takes any width.
 */
#pragma once
#include "vm/bus.h"
#include "vm/virtio/device.h"

#define VIRTIO_MMIO_LEN 0x1000
#define VIRTIO_MMIO_QUEUE_MAX 256 /* Linux takes as long a ring as there is, in its own memory */
#define VIRTIO_MMIO_NOTIFY 0x50   /* where an ioeventfd goes: the value is the queue's index */

struct virtio_mmio {
	struct virtio_device *device;
	void (*raise)(void *irq); /* one edge on the device's interrupt line */
	void *irq;
	/*
	 * Passes a kick that came through the register (not by ioeventfd) to the thread that serves
	 * the queue. NULL: it is served at once, one turn long.
	 */
	void (*kick)(void *ctx, unsigned queue);
	void *kick_ctx;
	uint32_t interrupts; /* pending, for INTERRUPT_STATUS; atomic: read without the lock */
	uint32_t features_select, driver_select, queue_select;
};

/* Joins transport and device. The device's place on the bus is the caller's: virtio_mmio_bus. */
void virtio_mmio_init(
	struct virtio_mmio *t, struct virtio_device *d, void (*raise)(void *irq), void *irq);

extern const struct vm_bus_ops virtio_mmio_bus;
