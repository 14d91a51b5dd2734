/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/power.h"

#include "vm/arch/x86_64/arch.h"

#define SLP_EN 0x20

static void power_read(void *device, uint64_t offset, void *ret_data, unsigned len)
{
	*(uint8_t *)ret_data = 0;
}

static void power_write(void *device, uint64_t offset, const void *data, unsigned len)
{
	uint8_t value = *(const uint8_t *)data;

	if (offset == 0 && (value & SLP_EN)) {
		if (((value >> 2) & 7) == VM_POWER_SLP_TYP)
			vcpus_end(device, VM_END_POWEROFF, "powered off");
		else
			vcpus_end(device, VM_END_FAULT,
				"the guest asked for sleep state type %u: expected power-off (%u), "
				"the only one there is",
				(value >> 2) & 7, VM_POWER_SLP_TYP);
	} else if (offset == 2 && value == VM_POWER_RESET_VALUE) {
		vcpus_end(device, VM_END_RESET, "reset by the guest");
	}
}

static const struct vm_bus_ops power_ops = {1, power_read, power_write};

int vm_power_add(struct vm_bus *pio, struct vcpus *c)
{
	return vm_bus_add(pio,
		&(struct vm_bus_entry){ARCH_POWER_PORT, ARCH_POWER_LEN, "power", &power_ops, c});
}
