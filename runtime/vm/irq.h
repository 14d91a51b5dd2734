/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interrupt lines of the devices. A line is an eventfd, and KVM turns each write to it into an edge
 * on the line's GSI. So any thread can raise an interrupt, and the vCPU need not leave the guest
 * for it. Each device has a GSI of its own; GSIs are assigned in the order of the devices.
 */
#pragma once
#include "vm/kvm.h"

/*
 * GSIs of the devices. The IOAPIC has 24 pins, and guests may expect the standard devices of a PC
 * at the pins below 5.
 */
#define VM_GSI_FIRST 5
#define VM_GSI_COUNT 19
/* GSI of the generation id (vm/genid.h), at the pin that a PC has for its second serial port */
#define VM_GSI_GENID 3

struct vm_irq {
	int fd; /* eventfd of the line; a vhost-user back end writes to it too */
	unsigned gsi;
};

/*
 * Makes interrupt line number `index`, 0 to VM_GSI_COUNT - 1. Returns -ENOSPC if the index is
 * higher.
 */
int vm_irq_init(struct vm_irq *ret, const struct vm_kvm *k, unsigned index) must_check;
/* Makes the interrupt line of this GSI, which is none of those of the devices. */
int vm_irq_init_gsi(struct vm_irq *ret, const struct vm_kvm *k, unsigned gsi) must_check;
void vm_irq_release(struct vm_irq *irq);
void vm_irq_raise(const struct vm_irq *irq);
