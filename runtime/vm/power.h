/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Provides three I/O ports, each a byte wide, with which the guest ends the machine. The FADT
 * describes them (ACPI 6.4, 4.8.3.7): +0 is sleep control, where SLP_EN with SLP_TYP 5 powers off;
 * +1 is sleep status; +2 is reset, where the value 1 resets.
 */
#pragma once
#include "vm/memory.h"
#include "vm/vcpu.h"

#define VM_POWER_SLP_TYP 5
#define VM_POWER_RESET_VALUE 1

/*
 * Adds the three ports to the bus `pio`. They end the machine by vcpus_end(c), so `c` must stay
 * valid until the vCPUs have ended.
 */
int vm_power_add(struct vm_bus *pio, struct vcpus *c) must_check;

/*
 * Writes a program that resets the machine to where a PC has its firmware. Linux jumps there in
 * real mode to restart by the firmware, as Debian's kernel does after an early panic. Without the
 * program the guest would execute what happens to be in its memory.
 */
int vm_power_write_vector(const struct vm_memory *m) must_check;
