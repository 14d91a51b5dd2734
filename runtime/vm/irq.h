/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt lines. A line is an eventfd that KVM turns into an edge on its GSI, so any thread
 * raises it with one write, and the vCPU does not have to exit. Each device gets a GSI of its own,
 * in the order of the devices.
 */
#pragma once
#include "vm/kvm.h"

/* The IOAPIC has 24 pins. Guests may expect devices of a PC at the pins below 5. */
#define VM_GSI_FIRST 5
#define VM_GSI_COUNT 19

struct vm_irq {
	int fd; /* eventfd; a vhost-user back end writes to it too */
	unsigned gsi;
};

/* index: 0 .. VM_GSI_COUNT - 1; -ENOSPC for any higher number. */
int vm_irq_init(struct vm_irq *ret, const struct vm_kvm *k, unsigned index) must_check;
void vm_irq_release(struct vm_irq *irq);
void vm_irq_raise(const struct vm_irq *irq);
