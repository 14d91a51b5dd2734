/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who answers at which port or MMIO address. Devices are added before the first vCPU runs; after
 * that the bus is read-only and vCPU threads dispatch without a lock (devices lock themselves).
 *
 * An access that no device takes, that leaves its device, or that has a width its device does not
 * know reads as all ones and writes nowhere, as on a real bus.
 */
#pragma once
#include <stdint.h>

#include "base/err.h"

#define VM_BUS_MAX 64

struct vm_bus_ops {
	unsigned widths; /* the sum of the access sizes in bytes that it knows: 1 | 2 | 4 | 8 */
	/* offset + len is inside the device. Little-endian, len bytes. Either may be NULL. */
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

/* -EEXIST where it overlaps another, -ENOSPC where the bus is full; the message names both. */
int vm_bus_add(struct vm_bus *b, const struct vm_bus_entry *entry) must_check;

void vm_bus_read(const struct vm_bus *b, uint64_t addr, void *ret_data, unsigned len);
void vm_bus_write(const struct vm_bus *b, uint64_t addr, const void *data, unsigned len);
