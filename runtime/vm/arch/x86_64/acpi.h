/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ACPI tables (6.4, hardware-reduced): RSDP, XSDT, FADT, MADT, and a DSDT with \_S5 and one
 * LNRO0005 device for each virtio-mmio device. A distribution's kernel needs no more to find the
 * machine.
 */
#pragma once
#include "vm/memory.h"

struct acpi_device {
	uint64_t base; /* below 4 GiB */
	uint32_t len;
	unsigned gsi; /* edge-triggered, active high */
};

struct acpi_machine {
	unsigned cpus; /* APIC ids 0 .. cpus - 1 */
	const struct acpi_device *devices;
	size_t device_count;
};

/* Writes the tables from ARCH_ACPI on. The kernel is told *ret_rsdp by the boot protocol. */
int acpi_write(const struct vm_memory *m, const struct acpi_machine *machine, uint64_t *ret_rsdp)
	must_check;
