/* SPDX-License-Identifier: Apache-2.0 */
#include <linux/kvm.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/str.h"
#include "vm/arch/x86_64/arch.h"

#define VMX (1U << 5) /* CPUID leaf 1, ECX: Intel's virtualization */
#define SVM (1U << 2) /* CPUID leaf 0x80000001, ECX: AMD's virtualization */
#define LEAF_SVM 0x8000000a

/* Returns how many bits of an APIC id are needed to distinguish `count` cores. */
static unsigned apic_id_bits(unsigned count)
{
	unsigned bits = 0;

	while ((1U << bits) < count)
		bits++;
	return bits;
}

static void remove_leaf(struct kvm_cpuid2 *c, uint32_t function)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < c->nent; i++)
		if (c->entries[i].function != function)
			c->entries[kept++] = c->entries[i];
	c->nent = kept;
}

/*
 * Makes CPUID leaf 0xb or 0x1f describe `count` cores with one thread each. KVM offers the host's
 * topology in these leaves, which would be wrong for the guest.
 */
static void add_topology(struct kvm_cpuid2 *c, uint32_t leaf, unsigned index, unsigned count)
{
	remove_leaf(c, leaf);
	for (uint32_t level = 0; level < 3 && c->nent < ARCH_CPUID_MAX; level++) {
		struct kvm_cpuid_entry2 e = {
			.function = leaf,
			.index = level,
			.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
			.ecx = level,
			.edx = index,
		};

		if (level < 2) {
			e.eax = level ? apic_id_bits(count) : 0;
			e.ebx = level ? count : 1;
			e.ecx |= (level + 1) << 8; /* level type: 1 is thread, 2 is core */
		}
		c->entries[c->nent++] = e;
	}
}

/*
 * Changes one CPUID entry for the guest. VMX and SVM stay only if cpu->nested asks for them,
 * because a guest that runs guests of its own reaches the part of KVM in which most flaws that lead
 * from a guest to the host are found (CVE-2026-53359).
 */
static void filter_entry(
	struct kvm_cpuid_entry2 *e, const struct arch_cpu *cpu, bool deadline_timer)
{
	const unsigned count = cpu->count;
	bool shared;

	switch (e->function) {
	case 1:
		e->ebx = (e->ebx & 0xff00) | count << 16 | cpu->index << 24;
		/* bit "hypervisor present", which makes Linux look for kvm-clock */
		e->ecx |= 1U << 31;
		e->ecx &= ~(1U << 24 | 1U << 3);
		e->ecx &= cpu->nested ? ~0U : ~VMX;
		/*
		 * The guest gets the TSC deadline timer, which KVM's local APIC emulates. Without
		 * this timer Linux calibrates with a PIT, which this machine does not have.
		 */
		e->ecx |= deadline_timer ? 1U << 24 : 0;
		if (count > 1)
			e->edx |= 1U << 28;
		break;
	/* leaf 4 describes caches: each core has its own L1 and L2, the package shares L3 */
	case 4:
		shared = ((e->eax >> 5) & 7) >= 3;
		e->eax = (e->eax & 0x3fff) | (count - 1) << 26 | (shared ? (count - 1) << 14 : 0);
		break;
	case 6: /* leaf 6: no thermal sensors; the local APIC's timer never stops (ARAT) */
		e->eax = 1U << 2;
		e->ebx = e->ecx = e->edx = 0;
		break;
	/* leaf 0xa: no performance counters, because they would count the host's events too */
	case 0xa:
		e->eax = e->ebx = e->ecx = e->edx = 0;
		break;
	case 0x80000001:
		/*
		 * clears the flag that offers leaves 0x8000001d and 0x8000001e, because these
		 * leaves would show the host's topology
		 */
		e->ecx &= ~(1U << 22);
		e->ecx &= cpu->nested ? ~0U : ~SVM;
		break;
	case 0x80000008:
		e->ecx = (count - 1) | apic_id_bits(count) << 12;
		break;
	default:
		break;
	}
}

void arch_filter_cpuid(struct kvm_cpuid2 *c, const struct arch_cpu *cpu, bool deadline_timer)
{
	bool intel = false;
	uint32_t highest = 0;

	for (uint32_t i = 0; i < c->nent; i++) {
		if (c->entries[i].function == 0) {
			highest = c->entries[i].eax;
			/* EBX of leaf 0 holds "Genu", the beginning of "GenuineIntel" */
			intel = c->entries[i].ebx == 0x756e6547;
		}
		filter_entry(&c->entries[i], cpu, deadline_timer);
	}
	remove_leaf(c, 0x8000001d);
	remove_leaf(c, 0x8000001e);
	if (!cpu->nested)
		remove_leaf(c, LEAF_SVM);
	if (highest >= 0xb)
		add_topology(c, 0xb, cpu->index, cpu->count);
	if (highest >= 0x1f && intel)
		add_topology(c, 0x1f, cpu->index, cpu->count);
}

static bool can_nest(const struct kvm_cpuid2 *c)
{
	for (uint32_t i = 0; i < c->nent; i++) {
		const struct kvm_cpuid_entry2 *e = &c->entries[i];
		if ((e->function == 1 && e->ecx & VMX) ||
			(e->function == 0x80000001 && e->ecx & SVM))
			return true;
	}
	return false;
}

int arch_make_cpuid(const struct vm_kvm *k, const struct arch_cpu *cpu, struct kvm_cpuid2 **ret)
{
	struct kvm_cpuid2 *c = calloc(1, sizeof(*c) + ARCH_CPUID_MAX * sizeof(c->entries[0]));

	*ret = c;
	if (!c)
		return err_set(ENOMEM, "out of memory for the CPUID of vCPU %u", cpu->index);
	c->nent = ARCH_CPUID_ENTRIES;
	if (ioctl(k->dev, KVM_GET_SUPPORTED_CPUID, c) < 0)
		return err_sys("ask KVM which CPU features it supports");
	if (cpu->nested && !can_nest(c))
		return err_set(ENOTSUP,
			"the guest is to run virtual machines of its own (nested), and this "
			"host's KVM offers neither VMX nor SVM to guests: load kvm_intel or "
			"kvm_amd with nested=1");
	bool deadline = ioctl(k->dev, KVM_CHECK_EXTENSION, KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	arch_filter_cpuid(c, cpu, deadline);
	return 0;
}

int arch_set_cpuid(const struct vm_kvm *k, int vcpu, const struct arch_cpu *cpu)
{
	_cleanup_free_ struct kvm_cpuid2 *c = NULL;
	int r = arch_make_cpuid(k, cpu, &c);

	if (r < 0)
		return r;
	if (ioctl(vcpu, KVM_SET_CPUID2, c) < 0)
		return err_sys("set the CPUID of vCPU %u", cpu->index);
	return 0;
}
