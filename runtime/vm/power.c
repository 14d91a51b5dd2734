/* SPDX-License-Identifier: Apache-2.0 */
#include "vm/power.h"

#include <errno.h>
#include <string.h>

#include "vm/arch/x86_64/arch.h"

#define SLP_EN 0x20
#define RESET_VECTOR 0xffff0 /* where a PC's firmware begins in real mode */

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

int vm_power_write_vector(const struct vm_memory *m)
{
	const uint16_t port = ARCH_POWER_PORT + 2;
	const uint8_t code[] = {
		0xba, (uint8_t)port, port >> 8, /* mov dx, port */
		0xb0, VM_POWER_RESET_VALUE,     /* mov al, value */
		0xee,                           /* out dx, al */
		0xf4,                           /* hlt */
		0xeb, 0xfd,                     /* jmp to hlt */
	};
	void *p = vm_memory_at(m, RESET_VECTOR, sizeof(code));

	if (!p)
		return err_set(EFAULT, "the reset vector is not in the guest's memory");
	memcpy(p, code, sizeof(code));
	return 0;
}
