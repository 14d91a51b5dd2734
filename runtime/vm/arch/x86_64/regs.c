/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/str.h"
#include "vm/arch/x86_64/arch.h"

#define CR0_PE 0x1U
#define CR0_ET 0x10U
#define CR0_PG 0x80000000U
#define CR4_PAE 0x20U
#define EFER_LME 0x100U
#define EFER_LMA 0x400U
#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18
#define MSR_MTRR_DEF_TYPE 0x2ff
#define PAGE_2M_FLAGS 0x83 /* page table entry: present, writable, large page */
#define TABLE_FLAGS 0x3    /* page table entry: present, writable */

/* Returns a segment that covers all 4 GiB, as a struct kvm_segment. */
static struct kvm_segment flat_segment(uint16_t selector, uint8_t type, bool is_long)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.s = 1,
		.l = is_long,
		.db = !is_long,
		.g = 1,
	};
}

static uint64_t gdt_descriptor(const struct kvm_segment *s)
{
	/*
	 * The base is 0 and the limit 0xfffff pages, so the descriptors of the segments differ only
	 * in the flag bytes in the middle.
	 */
	return UINT64_C(0x000f00000000ffff) |
	       (uint64_t)(s->type | s->s << 4 | s->present << 7) << 40 |
	       (uint64_t)(s->l << 1 | s->db << 2 | s->g << 3) << 52;
}

static int write_tables(
	const struct vm_memory *m, const struct kvm_segment *code, const struct kvm_segment *data)
{
	uint64_t gdt[4] = {0, 0, gdt_descriptor(code), gdt_descriptor(data)};
	uint64_t *pages = vm_memory_at(m, ARCH_PAGE_TABLES, 6 * 4096);

	if (!pages)
		return err_set(EFAULT, "guest memory has no room for page tables");
	memset(pages, 0, (size_t)6 * 4096);
	pages[0] = (ARCH_PAGE_TABLES + 4096) | TABLE_FLAGS;
	for (unsigned i = 0; i < 4; i++)
		pages[512 + i] = (ARCH_PAGE_TABLES + (2 + i) * 4096ULL) | TABLE_FLAGS;
	for (unsigned i = 0; i < 4 * 512; i++)
		pages[1024 + i] = (uint64_t)i << 21 | PAGE_2M_FLAGS;
	return vm_memory_write(m, ARCH_GDT, gdt, sizeof(gdt), "GDT");
}

static int set_sregs(int vcpu, const struct vm_memory *m, bool is_long)
{
	struct kvm_segment code = flat_segment(SELECTOR_CODE, 0xb, is_long);
	struct kvm_segment data = flat_segment(SELECTOR_DATA, 0x3, false);
	struct kvm_sregs s;

	if (ioctl(vcpu, KVM_GET_SREGS, &s) < 0)
		return err_sys("read the first vCPU's special registers");
	int r = write_tables(m, &code, &data);
	if (r < 0)
		return r;
	s.cs = code;
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.gdt.base = ARCH_GDT;
	s.gdt.limit = 4 * 8 - 1;
	s.idt.base = s.idt.limit = 0;
	/*
	 * The task register holds a busy 32-bit TSS, because VMX refuses to enter a guest with any
	 * other.
	 */
	s.tr = (struct kvm_segment){.limit = 0x67, .type = 0xb, .present = 1};
	s.cr0 = CR0_PE | CR0_ET;
	s.cr4 = 0;
	s.efer = 0;
	if (is_long) {
		s.cr0 |= CR0_PG;
		s.cr3 = ARCH_PAGE_TABLES;
		s.cr4 = CR4_PAE;
		s.efer = EFER_LME | EFER_LMA;
	}
	if (ioctl(vcpu, KVM_SET_SREGS, &s) < 0)
		return err_sys("set the first vCPU's special registers");
	return 0;
}

int arch_set_entry(int vcpu, const struct vm_memory *m, const struct arch_entry *entry)
{
	struct kvm_regs regs = {.rip = entry->ip, .rflags = 2};
	_cleanup_free_ struct kvm_msrs *msrs = calloc(1, sizeof(*msrs) + sizeof(msrs->entries[0]));

	if (!msrs)
		return err_set(ENOMEM, "out of memory for the first vCPU's MSRs");
	/*
	 * The MTRRs make all memory write-back by default. On a PC the firmware does this, and
	 * Linux warns if it was not done.
	 */
	msrs->nmsrs = 1;
	msrs->entries[0].index = MSR_MTRR_DEF_TYPE;
	msrs->entries[0].data = 1 << 11 | 6;
	int r = set_sregs(vcpu, m, entry->mode == ARCH_LONG);

	if (r < 0)
		return r;
	if (entry->mode == ARCH_LONG)
		regs.rsi = entry->argument;
	else
		regs.rbx = entry->argument;
	if (ioctl(vcpu, KVM_SET_REGS, &regs) < 0)
		return err_sys("set the first vCPU's registers");
	if (ioctl(vcpu, KVM_SET_MSRS, msrs) < 0)
		return err_sys("set the first vCPU's MSRs");
	return 0;
}

static void print_code(int vcpu, const struct vm_memory *m, uint64_t rip, char *text, size_t size)
{
	struct kvm_translation t = {.linear_address = rip};
	size_t len = 0;

	text[0] = '\0';
	if (ioctl(vcpu, KVM_TRANSLATE, &t) < 0 || !t.valid)
		return;
	for (uint64_t i = 0; i < 16 && len + 4 < size; i++) {
		const uint8_t *byte = vm_memory_at(m, t.physical_address + i, 1);

		if (!byte)
			return;
		len += (size_t)snprintf(text + len, size - len, " %02x", *byte);
	}
}

void arch_print_regs(int vcpu, const struct vm_memory *m, char *ret_text, size_t size)
{
	struct kvm_regs r;
	struct kvm_sregs s;
	char code[64];

	if (ioctl(vcpu, KVM_GET_REGS, &r) < 0 || ioctl(vcpu, KVM_GET_SREGS, &s) < 0) {
		snprintf(ret_text, size, "?");
		return;
	}
	print_code(vcpu, m, s.cs.base + r.rip, code, sizeof(code));
	snprintf(ret_text, size,
		"rip=%016llx rsp=%016llx rflags=%08llx\n"
		"rax=%016llx rbx=%016llx rcx=%016llx rdx=%016llx\n"
		"rsi=%016llx rdi=%016llx rbp=%016llx\n"
		"r8 =%016llx r9 =%016llx r10=%016llx r11=%016llx\n"
		"r12=%016llx r13=%016llx r14=%016llx r15=%016llx\n"
		"cr0=%08llx cr2=%016llx cr3=%016llx cr4=%08llx efer=%llx\n"
		"cs=%04x base=%llx %s ss=%04x idt=%llx/%x gdt=%llx/%x\n"
		"code at rip:%s",
		r.rip, r.rsp, r.rflags, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp, r.r8, r.r9,
		r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, s.cr0, s.cr2, s.cr3, s.cr4, s.efer,
		s.cs.selector, s.cs.base,
		s.cs.l    ? "64-bit"
		: s.cs.db ? "32-bit"
			  : "16-bit",
		s.ss.selector, s.idt.base, s.idt.limit, s.gdt.base, s.gdt.limit,
		code[0] ? code : " ?");
}
