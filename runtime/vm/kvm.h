/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /dev/kvm and one virtual machine on it.
 *
 *	vm_kvm_runs_linux()            whether to try at all: else QEMU is the hypervisor
 *	vm_kvm_open(&k)                opens /dev/kvm, checks what it can, creates the VM
 *	vm_kvm_add_memory(&k, &m)      guest RAM, once
 *	vm_kvm_create_irqchip(&k)      LAPICs, IOAPIC and PIC in the kernel; before the first vCPU
 *	vm_kvm_irqfd(), vm_kvm_ioeventfd()
 *	vm_kvm_release(&k)             after the last vCPU is closed
 */
#pragma once
#include <linux/kvm.h>
#include <stdint.h>

#include "vm/memory.h"

/* What there is to choose where KVM fails: the end of a message. */
#define VM_KVM_INSTEAD "--hypervisor qemu runs it in software"

struct vm_kvm {
	int dev;        /* /dev/kvm */
	int vm;         /* the machine */
	size_t run_len; /* of the page that a vCPU shares with us */
	unsigned max_vcpus;
	unsigned slots; /* memory slots in use */
};

/*
 * Whether an unmodified kernel can run on the KVM of `path`, without trying it: 1 or 0. reason: for
 * people, why (not) and what to do; cut to size. Takes microseconds; sets no message.
 */
int vm_kvm_runs_linux(const char *path, char *reason, size_t size) must_check;

/* -ENOENT: no KVM here; -EACCES: not ours to use; -ENOSYS: too old. The message says what to do. */
int vm_kvm_open(struct vm_kvm *ret, const char *path) must_check;
void vm_kvm_release(struct vm_kvm *k);

int vm_kvm_add_memory(struct vm_kvm *k, const struct vm_memory *m) must_check;
int vm_kvm_create_irqchip(struct vm_kvm *k) must_check;

/* Each write to eventfd raises GSI `gsi`, edge-triggered, without a system call of the writer's. */
int vm_kvm_irqfd(const struct vm_kvm *k, int eventfd, unsigned gsi) must_check;

/* A guest's 4-byte write of `value` to MMIO address `addr` signals eventfd; the vCPU goes on. */
int vm_kvm_ioeventfd(const struct vm_kvm *k, int eventfd, uint64_t addr, uint32_t value) must_check;
