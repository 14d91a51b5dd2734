/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bus: it knows which device answers at which port or MMIO address. Devices are added before
 * the first vCPU runs. After that the bus is read-only, so vCPU threads use it without a lock; each
 * device takes its own lock.
 *
 * A read that no device answers, that reaches beyond its device, or that has a width the device
 * does not support gives all ones, and such a write is ignored, as on a real bus.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"

#define VM_BUS_MAX 64

struct vm_bus_ops {
	unsigned widths; /* sum of the supported access sizes in bytes: 1 | 2 | 4 | 8 */
	/*
	 * offset + len is inside the device. The data is little-endian, len bytes. Each of the two
	 * may be NULL.
	 */
	void (*read)(void *device, uint64_t offset, void *ret_data, unsigned len);
	void (*write)(void *device, uint64_t offset, const void *data, unsigned len);
};

struct vm_bus_entry {
	uint64_t base;
	uint64_t len;
	const char *name;
	const struct vm_bus_ops *ops;
	void *device; /* not owned */
};

struct vm_bus {
	unsigned count;
	struct vm_bus_entry entries[VM_BUS_MAX]; /* sorted by base */
};

/*
 * -EEXIST: the range overlaps another device's; -ENOSPC: the bus is full. The message names the
 * devices.
 */
int vm_bus_add(struct vm_bus *b, const struct vm_bus_entry *entry) must_check;

void vm_bus_read(const struct vm_bus *b, uint64_t addr, void *ret_data, unsigned len);
void vm_bus_write(const struct vm_bus *b, uint64_t addr, const void *data, unsigned len);
