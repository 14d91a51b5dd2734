/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements the virtio-mmio transport, version 2 (virtio 1.2, 4.2): the registers of a device are
 * one page on the MMIO bus. Registers are 32 bits wide and aligned. The configuration, from offset
 * 0x100 on, can be accessed in any width.
 */
#pragma once
#include "vm/bus.h"
#include "vm/virtio/device.h"

#define VIRTIO_MMIO_LEN 0x1000
/*
 * the longest queue that a driver may set up, in entries; the limit is small, because Linux always
 * chooses the longest queue, and its rings take guest memory
 */
#define VIRTIO_MMIO_QUEUE_MAX 256
/*
 * Offset of the register that the driver writes to kick a queue, for ioeventfds. The value written
 * is the queue's index.
 */
#define VIRTIO_MMIO_NOTIFY 0x50

struct virtio_mmio {
	struct virtio_device *device;
	void (*raise)(void *irq); /* raises the device's interrupt once (one edge) */
	void *irq;
	/*
	 * Passes a kick to the thread that serves the queue. This is for kicks that come by a write
	 * to the register, and not by an ioeventfd. NULL: virtio_kick() serves the queue at once.
	 */
	void (*kick)(void *ctx, unsigned queue);
	void *kick_ctx;
	/*
	 * Bits of the register INTERRUPT_STATUS that are set. The member is accessed atomically,
	 * because the register is read without the lock.
	 */
	uint32_t interrupts;
	uint32_t features_select, driver_select, queue_select;
};

/*
 * Connects the device to the transport. The caller then adds virtio_mmio_bus to the MMIO bus at the
 * device's address.
 */
void virtio_mmio_init(
	struct virtio_mmio *t, struct virtio_device *d, void (*raise)(void *irq), void *irq);

/*
 * Connects another device to the transport in place of the one that it has, as after a reset. No
 * other thread may use the transport meanwhile.
 */
void virtio_mmio_exchange(struct virtio_mmio *t, struct virtio_device *d);

/*
 * virtio_mmio_save() writes the state of the transport and of its device to the section of the
 * snapshot that was begun last, and virtio_mmio_load() reads it (virtio_save(), virtio_load()).
 */
int virtio_mmio_save(struct virtio_mmio *t, struct snapshot_writer *w) must_check;
int virtio_mmio_load(struct virtio_mmio *t, struct snapshot_part *p) must_check;
/* Reads the type of the device that virtio_mmio_save() has written; 0: a spare slot's. */
int virtio_mmio_read_id(struct snapshot_part *p, uint32_t *ret) must_check;
/*
 * Raises the interrupt once if the driver runs, because a snapshot does not have the interrupts
 * that were under way.
 */
void virtio_mmio_nudge(struct virtio_mmio *t);

extern const struct vm_bus_ops virtio_mmio_bus;
