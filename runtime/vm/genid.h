/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The generation id of the machine: 16 random bytes in guest memory at ARCH_GENID (Microsoft,
 * "Virtual Machine Generation ID"). The host writes a new id each time that a machine starts from a
 * snapshot, and then raises the interrupt VM_GSI_GENID. By the two the guest's kernel learns that
 * another machine may have the same state, and draws new random numbers: Linux does so with
 * CONFIG_VMGENID. The ACPI tables tell the kernel where the id is.
 *
 * Machines of MACHINE_ABI_GENID and later have the id (vm/snapshot/format.h). The host never reads
 * it back, so a guest may write there what it wants.
 */
#pragma once
#include "vm/memory.h"

#define VM_GENID_LEN 16

/*
 * Writes a new id to guest memory, and the page of VMClock (vm/vmclock.h), which is another way to
 * tell the same. No vCPU may run. The caller raises the interrupt if the guest has run before.
 */
int vm_genid_renew(const struct vm_memory *m) must_check;
