/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-mmio transport, version 2 (virtio 1.2, 4.2): the registers of a device are one page on
 * the MMIO bus. Registers are 32 bits wide and aligned; the configuration, from 0x100 on, takes
 * accesses of any width.
 */
#pragma once
#include "vm/bus.h"
#include "vm/virtio/device.h"

#define VIRTIO_MMIO_LEN 0x1000
#define VIRTIO_MMIO_QUEUE_MAX 256 /* Linux makes rings as long as possible, in memory of its own */
/* address for the ioeventfds; the value is the index of the queue */
#define VIRTIO_MMIO_NOTIFY 0x50

struct virtio_mmio {
	struct virtio_device *device;
	void (*raise)(void *irq); /* raises one edge on the device's interrupt line */
	void *irq;
	/*
	 * Passes a kick that came by the register, and not by an ioeventfd, to the thread that
	 * serves the queue. NULL: the queue is served at once, for one share.
	 */
	void (*kick)(void *ctx, unsigned queue);
	void *kick_ctx;
	/* pending, for INTERRUPT_STATUS; atomic, because it is read without the lock */
	uint32_t interrupts;
	uint32_t features_select, driver_select, queue_select;
};

/*
 * Joins transport and device. The caller puts virtio_mmio_bus on the bus at the device's address.
 */
void virtio_mmio_init(
	struct virtio_mmio *t, struct virtio_device *d, void (*raise)(void *irq), void *irq);

extern const struct vm_bus_ops virtio_mmio_bus;
