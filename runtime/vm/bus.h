/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps each I/O port or MMIO address to the device that answers there. Devices are added before the
 * first vCPU runs. While vCPUs run, the bus does not change, so their threads use it without a
 * lock; each device takes its own lock.
 *
 * An access is invalid if no device answers it, if it reaches beyond its device, or if the device
 * does not support its width. As on a real bus, an invalid read returns all ones, and an invalid
 * write is ignored.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"

#define VM_BUS_MAX 64

struct vm_bus_ops {
	unsigned widths; /* supported access sizes in bytes, as a sum of 1, 2, 4 and 8 */
	/*
	 * Callbacks for an access by the guest: `len` bytes at `offset` of the device,
	 * little-endian. The bus has checked that offset + len is inside the device. NULL: the
	 * device ignores this kind of access.
	 */
	void (*read)(void *device, uint64_t offset, void *ret_data, unsigned len);
	void (*write)(void *device, uint64_t offset, const void *data, unsigned len);
};

struct vm_bus_entry {
	uint64_t base;
	uint64_t len;
	const char *name;
	const struct vm_bus_ops *ops;
	void *device; /* the device, which the bus passes to read() and write() but does not own */
};

struct vm_bus {
	unsigned count;
	struct vm_bus_entry entries[VM_BUS_MAX]; /* devices, sorted by their base address */
};

/*
 * Adds a device. Returns -EEXIST if its range overlaps another device's, and -ENOSPC if the bus is
 * full; the message names the devices.
 */
int vm_bus_add(struct vm_bus *b, const struct vm_bus_entry *entry) must_check;

void vm_bus_read(const struct vm_bus *b, uint64_t addr, void *ret_data, unsigned len);
void vm_bus_write(const struct vm_bus *b, uint64_t addr, const void *data, unsigned len);
