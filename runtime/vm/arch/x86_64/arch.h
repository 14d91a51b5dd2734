/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares what is specific to x86-64: the state of a vCPU before its first instruction, and the
 * guest addresses below 1 MiB where the monitor puts data for the kernel. The kernel itself is
 * loaded at 1 MiB or above.
 */
#pragma once
#include "vm/kvm.h"
#include "vm/snapshot/format.h"

#define ARCH_GDT 0x500 /* guest address of the GDT (4 entries) */
/* guest address of PVH's data: hvm_start_info, module list, memory map (4 KiB) */
#define ARCH_START_INFO 0x6000
#define ARCH_ZERO_PAGE 0x7000 /* guest address of a bzImage's data: struct boot_params (4 KiB) */
/* guest address of 6 pages of page tables, which map the first 4 GiB 1:1 by 2 MiB pages */
#define ARCH_PAGE_TABLES 0x9000
#define ARCH_CMDLINE 0x20000 /* guest address of the kernel's command line (up to 64 KiB) */
#define ARCH_CMDLINE_MAX 0x10000
#define ARCH_LOW_END 0x9fc00 /* end of the memory below 640 KiB that the kernel may use */
/*
 * guest address of the ACPI tables; old kernels search for the RSDP here. The guest's memory map
 * reserves all from ARCH_LOW_END to ARCH_KERNEL.
 */
#define ARCH_ACPI 0xe0000
#define ARCH_ACPI_END 0xfe000
#define ARCH_VMCLOCK 0xfe000 /* guest address of the page of VMClock (vm/vmclock.h) */
#define ARCH_GENID 0xff000   /* guest address of the page with the generation id (vm/genid.h) */
#define ARCH_KERNEL 0x100000

/* The virtio-mmio devices lie in the hole below 4 GiB. Each device has one page. */
#define ARCH_VIRTIO_BASE UINT64_C(0xd0000000)
#define ARCH_VIRTIO_STEP 0x1000

/* I/O ports of the ACPI sleep and reset registers (see acpi.h) */
#define ARCH_POWER_PORT 0x600
#define ARCH_POWER_LEN 3

enum arch_mode {
	/* entry by Linux's 64-bit boot protocol: 64-bit mode, paging on, RSI = argument */
	ARCH_LONG,
	/* entry by Xen's PVH protocol: 32-bit protected mode, paging off, EBX = argument */
	ARCH_PVH,
};

struct arch_entry {
	enum arch_mode mode;
	uint64_t ip;
	/*
	 * guest address of the boot data, which the first vCPU passes to the kernel in a register
	 */
	uint64_t argument;
};

struct arch_cpu {
	unsigned index, count; /* number of this vCPU, and number of vCPUs of the machine */
	/* the guest may run virtual machines of its own, if the host's KVM supports that */
	bool nested;
};

#define ARCH_CPUID_ENTRIES 256 /* the most CPUID entries that caisson accepts from KVM */
/* the most CPUID entries of a vCPU, with room for the entries that caisson adds */
#define ARCH_CPUID_MAX 320

/*
 * Changes the CPUID entries that KVM offers into those of this vCPU: removes features that the
 * guest must not use, and sets the vCPU's ids and a topology of one package with cpu->count cores.
 * The array in c must have room for ARCH_CPUID_MAX entries.
 */
void arch_filter_cpuid(struct kvm_cpuid2 *c, const struct arch_cpu *cpu, bool deadline_timer);
/*
 * Sets the CPUID of the vCPU to what KVM offers, after arch_filter_cpuid() has changed it. Returns
 * -ENOTSUP if cpu->nested is set and this host's KVM cannot nest.
 */
int arch_set_cpuid(const struct vm_kvm *k, int vcpu, const struct arch_cpu *cpu) must_check;

/*
 * Makes in *ret, which the caller frees, the CPUID that arch_set_cpuid() sets. Returns -ENOTSUP
 * like it.
 */
int arch_make_cpuid(const struct vm_kvm *k, const struct arch_cpu *cpu, struct kvm_cpuid2 **ret)
	must_check;

/*
 * Writes the GDT and the page tables to guest memory, and sets the registers of the first vCPU. The
 * other vCPUs need no registers, because they wait for INIT and SIPI.
 */
int arch_set_entry(int vcpu, const struct vm_memory *m, const struct arch_entry *entry) must_check;

#define ARCH_REGS_TEXT 1536

/*
 * Prints the vCPU's registers and the bytes at RIP into ret_text, as several lines for an error
 * message. If KVM cannot read the registers, the text is "?".
 */
void arch_print_regs(int vcpu, const struct vm_memory *m, char *ret_text, size_t size);

/* --- state.c: saves the state of vCPUs, interrupt controllers and clock, and loads it --- */

/*
 * Writes the state of a vCPU, which must be paused, to the section of the snapshot that was begun
 * last.
 */
int arch_save_vcpu(const struct vm_kvm *k, int vcpu, const struct arch_cpu *cpu,
	struct snapshot_writer *w) must_check;
/*
 * Sets the state of a vCPU that has not run yet, after guest memory was loaded. Returns -ENOTSUP
 * if this host's CPU or KVM differs from the one of the snapshot.
 */
int arch_load_vcpu(const struct vm_kvm *k, int vcpu, const struct arch_cpu *cpu,
	struct snapshot_part *p) must_check;
/*
 * Save and load the interrupt controllers and the clock. The caller loads them before the vCPUs,
 * and while no vCPU runs.
 */
int arch_save_vm(const struct vm_kvm *k, struct snapshot_writer *w) must_check;
int arch_load_vm(const struct vm_kvm *k, struct snapshot_part *p) must_check;
/*
 * Tells the guest that this vCPU was paused, so that the guest's watchdog does not take the pause
 * for a hang.
 */
void arch_tell_pause(int vcpu);
