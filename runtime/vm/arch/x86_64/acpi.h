/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Describes the machine to the guest's kernel in ACPI tables (6.4, hardware-reduced): RSDP, XSDT,
 * FADT, MADT, and a DSDT with \_S5, one LNRO0005 device for each virtio-mmio device, and, if the
 * machine has them, a serial port, a power button, and a generation id with VMClock. A
 * distribution's kernel needs no more than these to find the machine's devices.
 */
#pragma once
#include "vm/memory.h"

struct acpi_device {
	uint64_t base; /* guest address of the device's registers, below 4 GiB */
	uint32_t len;
	unsigned gsi; /* interrupt number; edge-triggered, active high */
};

struct acpi_machine {
	unsigned cpus; /* number of vCPUs; their APIC ids are 0 to cpus - 1 */
	const struct acpi_device *devices;
	size_t device_count;
	/* interrupt number of the power button, edge-triggered; 0: there is none */
	unsigned button_gsi;
	bool serial; /* there is the serial port of vm/uart.h */
	/*
	 * interrupt number of the generation id and VMClock (vm/genid.h), edge-triggered; 0: there
	 * is neither
	 */
	unsigned genid_gsi;
};

/*
 * Writes the tables to guest memory, beginning at ARCH_ACPI. Sets *ret_rsdp to the guest address of
 * the RSDP, which the caller passes to the kernel by the boot protocol.
 */
int acpi_write(const struct vm_memory *m, const struct acpi_machine *machine, uint64_t *ret_rsdp)
	must_check;
