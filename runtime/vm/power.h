/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three byte-wide ports that end the machine, as the FADT describes them (ACPI 6.4, 4.8.3.7):
 * +0 sleep control: SLP_EN with SLP_TYP 5 is power-off; +1 sleep status; +2 reset: 1 resets.
 */
#pragma once
#include "vm/vcpu.h"

#define VM_POWER_SLP_TYP 5
#define VM_POWER_RESET_VALUE 1

/* Puts the ports on the bus; `c` must be there until the vCPUs have ended. */
int vm_power_add(struct vm_bus *pio, struct vcpus *c) must_check;
