/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt lines. A line is an eventfd that KVM turns into an edge on its GSI: any thread raises
 * it with one write, and the vCPU needs no exit. GSIs are given out in order, one a device, never
 * shared.
 */
#pragma once
#include "vm/kvm.h"

/* The IOAPIC has 24 pins; below 5 are the places of PC devices that guests may expect there. */
#define VM_GSI_FIRST 5
#define VM_GSI_COUNT 19

struct vm_irq {
	int fd; /* for a vhost-user back end to write to, too */
	unsigned gsi;
};

/* index 0 .. VM_GSI_COUNT - 1; -ENOSPC past it. */
int vm_irq_init(struct vm_irq *ret, const struct vm_kvm *k, unsigned index) must_check;
void vm_irq_release(struct vm_irq *irq);
void vm_irq_raise(const struct vm_irq *irq);
