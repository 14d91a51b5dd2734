/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens /dev/kvm and creates one virtual machine on it.
 *
 *	vm_kvm_runs_linux()            whether KVM can be used; if not, QEMU is the hypervisor
 *	vm_kvm_open(&k)                opens /dev/kvm, checks it, and creates the VM
 *	vm_kvm_add_memory(&k, &m)      gives KVM the guest's RAM, once
 *	vm_kvm_create_irqchip(&k)      makes LAPICs, IOAPIC and PIC, before the first vCPU
 *	vm_kvm_irqfd(), vm_kvm_ioeventfd()
 *	vm_kvm_release(&k)             after the last vCPU is closed
 */
#pragma once
#include <linux/kvm.h>
#include <stdint.h>

#include "base/user.h"
#include "vm/memory.h"

/* The end of an error message about a failure of KVM. It says what the user can do instead. */
#define VM_KVM_INSTEAD "--hypervisor qemu runs it in software"

struct vm_kvm {
	int dev;        /* descriptor of /dev/kvm */
	int vm;         /* descriptor of the virtual machine */
	size_t run_len; /* bytes of struct kvm_run, which each vCPU shares with this process */
	unsigned max_vcpus;
	unsigned slots; /* number of KVM memory slots in use */
};

/*
 * Returns 1 if the KVM at `path` can run an unmodified Linux kernel, else 0. The function decides
 * by CPUID, without a trial run, in microseconds. Writes a text for the user into `reason`, cut to
 * `size` bytes: why or why not, and what to do. Does not change err_msg().
 */
int vm_kvm_runs_linux(const char *path, char *reason, size_t size) must_check;

/*
 * Finds the group whose members may open the KVM device at `path`: its name or, without one, its
 * number. Returns false if the members of no group may open the device.
 */
bool vm_kvm_group(const char *path, char ret[static USER_NAME_MAX]);

/*
 * Opens the KVM device at `path`, checks it and creates a virtual machine. Returns -ENOENT if this
 * host has no KVM, -EACCES without permission, -ENOSYS if KVM is too old. The error message says
 * what to do.
 */
int vm_kvm_open(struct vm_kvm *ret, const char *path) must_check;
void vm_kvm_release(struct vm_kvm *k);

int vm_kvm_add_memory(struct vm_kvm *k, const struct vm_memory *m) must_check;
int vm_kvm_create_irqchip(struct vm_kvm *k) must_check;

/*
 * Makes KVM raise the edge-triggered interrupt `gsi` each time that somebody writes to the eventfd.
 */
int vm_kvm_irqfd(const struct vm_kvm *k, int eventfd, unsigned gsi) must_check;

/*
 * Makes KVM signal the eventfd when the guest writes the 4-byte `value` to the MMIO address `addr`.
 * The vCPU continues without an exit.
 */
int vm_kvm_ioeventfd(const struct vm_kvm *k, int eventfd, uint64_t addr, uint32_t value) must_check;
/* Undoes vm_kvm_ioeventfd(), which had the same arguments. */
void vm_kvm_remove_ioeventfd(const struct vm_kvm *k, int eventfd, uint64_t addr, uint32_t value);
