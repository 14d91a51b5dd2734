/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saves and loads what KVM keeps of the machine: the vCPUs, the interrupt controllers, the clock.
 *
 * Theory of operation. The order of KVM's calls matters, because some of them change what others
 * read or write (Documentation/virt/kvm/api.rst, and arch/x86/kvm/x86.c):
 *
 *	saving   MP_STATE is first, because it takes pending INIT and start-up interrupts. The
 *	         events are last, because reading the LAPIC may change them.
 *	loading  SREGS sets the base of the LAPIC, so SREGS precedes the LAPIC. The LAPIC precedes
 *	         the MSRs, because the MSR "TSC deadline" counts only in the TSC-deadline mode of
 *	         the LAPIC's timer. The events are last, because REGS clears pending exceptions.
 *
 * The TSC is the first MSR, and the TSC deadline, which is compared with it, is the last one.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/str.h"
#include "vm/arch/x86_64/arch.h"

#define MSR_TSC 0x10
#define MSR_TSC_DEADLINE 0x6e0
#define MSRS_MAX 2048
/* a value that the TSC of no guest comes near to, whatever its frequency */
#define TSC_FAR (UINT64_C(1) << 63)
/*
 * The longest XSAVE area that a snapshot may have, in bytes. The area with AMX, the longest today,
 * has 11 KiB.
 */
#define XSAVE_MAX (64U << 10)
/*
 * How far the frequency of two TSCs may differ, in parts of a million, and still count as the
 * same, because the kernel measures it at each boot
 */
#define TSC_TOLERANCE_PPM 250

/* The parts of a vCPU that have a fixed length, in the order of the section. */
struct fixed {
	struct kvm_mp_state mp_state;
	uint32_t tsc_khz; /* frequency of the TSC in kHz; 0: KVM does not tell */
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_debugregs debug;
	struct kvm_xcrs xcrs;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	uint32_t xsave_len, msr_count, cpuid_count, unused;
};

_Static_assert(sizeof(struct fixed) == 2088, "a change needs a new SNAPSHOT_FORMAT");

struct vm_state {
	struct kvm_irqchip chips[3]; /* the two PICs and the IOAPIC */
	struct kvm_clock_data clock;
};

_Static_assert(sizeof(struct vm_state) == 3 * 520 + 48, "a change needs a new SNAPSHOT_FORMAT");

/* An ioctl of KVM that reads or writes one part of the state. */
struct part {
	unsigned long call;
	void *data;
	const char *name;
};

static int call_all(int fd, const struct part *parts, size_t n, const char *what)
{
	for (size_t i = 0; i < n; i++)
		if (ioctl(fd, parts[i].call, parts[i].data) < 0)
			return err_sys("%s %s", what, parts[i].name);
	return 0;
}

/* --- XSAVE: saves and loads the registers of the FPU, SSE, AVX and later extensions --- */

static uint32_t xsave_len(const struct vm_kvm *k)
{
	int len = ioctl(k->vm, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE2);

	return len > (int)sizeof(struct kvm_xsave) ? (uint32_t)len
						   : (uint32_t)sizeof(struct kvm_xsave);
}

static int save_xsave(int vcpu, struct snapshot_writer *w, uint32_t len)
{
	_cleanup_free_ void *area = calloc(1, len);
	bool large = len > sizeof(struct kvm_xsave);

	if (!area)
		return err_set(ENOMEM, "out of memory for a vCPU's XSAVE area");
	if (ioctl(vcpu, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, area) < 0)
		return err_sys("read XSAVE");
	return snapshot_put(w, area, len);
}

static int load_xsave(int vcpu, struct snapshot_part *p, uint32_t len)
{
	_cleanup_free_ void *area = calloc(1, len);

	if (!area)
		return err_set(ENOMEM, "out of memory for a vCPU's XSAVE area");
	int r = snapshot_get(p, area, len);
	if (r < 0)
		return r;
	return ioctl(vcpu, KVM_SET_XSAVE, area) < 0 ? err_sys("set XSAVE") : 0;
}

/* --- MSRs: lists those that KVM can save, and saves and loads them --- */

static void move_msr(struct kvm_msr_list *list, uint32_t index, uint32_t to)
{
	for (uint32_t i = 0; i < list->nmsrs; i++) {
		if (list->indices[i] != index)
			continue;
		list->indices[i] = list->indices[to];
		list->indices[to] = index;
		return;
	}
}

/* Lists the MSRs that KVM can save, the TSC first and the TSC deadline last. */
static int list_msrs(const struct vm_kvm *k, struct kvm_msr_list **ret)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + MSRS_MAX * sizeof(list->indices[0]));

	if (!list)
		return err_set(ENOMEM, "out of memory for the list of MSRs");
	list->nmsrs = MSRS_MAX;
	*ret = list;
	if (ioctl(k->dev, KVM_GET_MSR_INDEX_LIST, list) < 0)
		return err_sys("list the MSRs");
	if (list->nmsrs > 0) {
		move_msr(list, MSR_TSC, 0);
		move_msr(list, MSR_TSC_DEADLINE, list->nmsrs - 1);
	}
	return 0;
}

/*
 * Reads all MSRs of the list. KVM_GET_MSRS stops at the first MSR that this vCPU does not have. So
 * the function leaves that MSR out, and repeats the call for the MSRs behind it.
 */
static int read_msrs(int vcpu, const struct kvm_msr_list *list, struct kvm_msrs *ret)
{
	_cleanup_free_ struct kvm_msrs *some =
		calloc(1, sizeof(*some) + list->nmsrs * sizeof(some->entries[0]));

	if (!some)
		return err_set(ENOMEM, "out of memory for a vCPU's MSRs");
	for (uint32_t at = 0; at < list->nmsrs;) {
		some->nmsrs = list->nmsrs - at;
		for (uint32_t i = 0; i < some->nmsrs; i++)
			some->entries[i].index = list->indices[at + i];
		int n = ioctl(vcpu, KVM_GET_MSRS, some);
		if (n < 0)
			/* an error means that the vCPU does not have the first MSR of this call */
			n = 0;
		memcpy(&ret->entries[ret->nmsrs], some->entries,
			(size_t)n * sizeof(some->entries[0]));
		ret->nmsrs += (uint32_t)n;
		at += (uint32_t)n + 1;
	}
	return 0;
}

/*
 * Sets one MSR. KVM lists some MSRs that cannot be written; for such an MSR it is enough that it
 * already has the value.
 */
static int load_msr(int vcpu, const struct kvm_msr_entry *e)
{
	_cleanup_free_ struct kvm_msrs *one = calloc(1, sizeof(*one) + sizeof(*e));

	if (!one)
		return err_set(ENOMEM, "out of memory for a vCPU's MSRs");
	one->nmsrs = 1;
	one->entries[0] = *e;
	if (ioctl(vcpu, KVM_SET_MSRS, one) == 1)
		return 0;
	if (ioctl(vcpu, KVM_GET_MSRS, one) == 1 && one->entries[0].data == e->data)
		return 0;
	return err_set(ENOTSUP,
		"KVM does not accept the value 0x%" PRIx64 " for MSR 0x%" PRIx32
		": the snapshot is of another CPU or kernel",
		(uint64_t)e->data, e->index);
}

/*
 * Makes KVM take the TSC of the snapshot as it is. If a value is within a second of what the TSC of
 * the machine's vCPUs would be now, KVM before Linux 6.7 takes the write for one that synchronizes
 * vCPUs, and leaves the TSC as it was. That is meant for the other vCPUs, whose TSC then stays in
 * step with that of the first one. But the TSC of a new machine begins at 0, so the TSC of a guest
 * that was saved in its first second would go back, and its timers would be late.
 */
static int leave_tsc(int vcpu)
{
	const struct kvm_msr_entry far = {.index = MSR_TSC, .data = TSC_FAR};

	return load_msr(vcpu, &far);
}

static int load_msrs(int vcpu, struct snapshot_part *p, uint32_t count)
{
	int r = 0;

	for (uint32_t i = 0; i < count && r >= 0; i++) {
		struct kvm_msr_entry e = {0};

		r = snapshot_get(p, &e, sizeof(e));
		if (r >= 0)
			r = load_msr(vcpu, &e);
	}
	return r;
}

/* --- CPUID: checks that what the guest has found out about its CPU stays true --- */

static int compare_cpuid(
	const struct kvm_cpuid2 *here, const struct kvm_cpuid_entry2 *saved, uint32_t i)
{
	const struct kvm_cpuid_entry2 *own = &here->entries[i];

	if (i < here->nent && memcmp(own, saved, sizeof(*own)) == 0)
		return 0;
	return err_set(ENOTSUP,
		"the snapshot is of another CPU or kernel: CPUID leaf 0x%" PRIx32 ".%" PRIu32
		" was %08" PRIx32 " %08" PRIx32 " %08" PRIx32 " %08" PRIx32
		", this host offers %08" PRIx32 " %08" PRIx32 " %08" PRIx32 " %08" PRIx32
		" (leaf 0x%" PRIx32 ".%" PRIu32 ")",
		saved->function, saved->index, saved->eax, saved->ebx, saved->ecx, saved->edx,
		own->eax, own->ebx, own->ecx, own->edx, own->function, own->index);
}

static int check_cpuid(
	const struct vm_kvm *k, const struct arch_cpu *cpu, struct snapshot_part *p, uint32_t count)
{
	_cleanup_free_ struct kvm_cpuid2 *here = NULL;
	int r = arch_make_cpuid(k, cpu, &here);

	for (uint32_t i = 0; i < count && r >= 0; i++) {
		struct kvm_cpuid_entry2 saved;

		r = snapshot_get(p, &saved, sizeof(saved));
		if (r >= 0)
			r = compare_cpuid(here, &saved, i);
	}
	if (r >= 0 && here->nent != count)
		r = err_set(ENOTSUP,
			"the snapshot is of another CPU or kernel: it has %" PRIu32
			" CPUID leaves, this host offers %" PRIu32,
			count, here->nent);
	return r;
}

/* --- A vCPU: saves and loads all parts of its state in the right order --- */

static int read_fixed(const struct vm_kvm *k, int vcpu, struct fixed *f)
{
	const struct part parts[] = {
		{KVM_GET_MP_STATE, &f->mp_state, "MP_STATE"},
		{KVM_GET_REGS, &f->regs, "REGS"},
		{KVM_GET_SREGS, &f->sregs, "SREGS"},
		{KVM_GET_XCRS, &f->xcrs, "XCRS"},
		{KVM_GET_DEBUGREGS, &f->debug, "DEBUGREGS"},
		{KVM_GET_LAPIC, &f->lapic, "LAPIC"},
	};
	int r = call_all(vcpu, parts, ARRAY_SIZE(parts), "read");

	if (r < 0)
		return r;
	int khz = ioctl(vcpu, KVM_GET_TSC_KHZ, 0);
	f->tsc_khz = khz > 0 ? (uint32_t)khz : 0;
	f->xsave_len = xsave_len(k);
	return 0;
}

int arch_save_vcpu(
	const struct vm_kvm *k, int vcpu, const struct arch_cpu *cpu, struct snapshot_writer *w)
{
	_cleanup_free_ struct kvm_msr_list *list = NULL;
	_cleanup_free_ struct kvm_cpuid2 *cpuid = NULL;
	struct fixed f = {0};

	int r = read_fixed(k, vcpu, &f);
	if (r >= 0)
		r = list_msrs(k, &list);
	if (r >= 0)
		r = arch_make_cpuid(k, cpu, &cpuid);
	if (r < 0)
		return r;
	_cleanup_free_ struct kvm_msrs *msrs =
		calloc(1, sizeof(*msrs) + list->nmsrs * sizeof(msrs->entries[0]));
	if (!msrs)
		return err_set(ENOMEM, "out of memory for a vCPU's MSRs");
	r = read_msrs(vcpu, list, msrs);
	if (r >= 0 && ioctl(vcpu, KVM_GET_VCPU_EVENTS, &f.events) < 0)
		r = err_sys("read VCPU_EVENTS");
	f.msr_count = msrs->nmsrs;
	f.cpuid_count = cpuid->nent;
	if (r >= 0)
		r = snapshot_put(w, &f, sizeof(f));
	if (r >= 0)
		r = snapshot_put(w, cpuid->entries, cpuid->nent * sizeof(cpuid->entries[0]));
	if (r >= 0)
		r = save_xsave(vcpu, w, f.xsave_len);
	return r < 0 ? r : snapshot_put(w, msrs->entries, msrs->nmsrs * sizeof(msrs->entries[0]));
}

/*
 * Gives the vCPU the TSC frequency of the snapshot. If KVM cannot set it, because the processor
 * cannot scale the TSC, and the host's frequency is another one, returns -ENOTSUP, because the
 * guest's clock would run too fast or too slow.
 */
static int load_tsc_khz(int vcpu, uint32_t khz)
{
	int here = ioctl(vcpu, KVM_GET_TSC_KHZ, 0);
	const int64_t far = (int64_t)khz - here;

	if (khz == 0 || here <= 0 ||
		(far < 0 ? -far : far) * 1000000 <= (int64_t)khz * TSC_TOLERANCE_PPM)
		return 0;
	if (ioctl(vcpu, KVM_SET_TSC_KHZ, (unsigned long)khz) == 0)
		return 0;
	return err_set(ENOTSUP,
		"the snapshot is of another CPU: its TSC has %" PRIu32
		" kHz, this host's has %d and cannot be scaled",
		khz, here);
}

static int check_fixed(const struct vm_kvm *k, const struct fixed *f)
{
	if (f->xsave_len != xsave_len(k) || f->xsave_len > XSAVE_MAX)
		return err_set(ENOTSUP,
			"the snapshot is of another CPU: its XSAVE area has %" PRIu32
			" bytes, this host's has %" PRIu32,
			f->xsave_len, xsave_len(k));
	if (f->msr_count > MSRS_MAX || f->cpuid_count > ARCH_CPUID_MAX)
		return err_set(EBADMSG,
			"the snapshot has %" PRIu32 " MSRs and %" PRIu32
			" CPUID leaves: expected up to %d and %d",
			f->msr_count, f->cpuid_count, MSRS_MAX, ARCH_CPUID_MAX);
	return 0;
}

int arch_load_vcpu(
	const struct vm_kvm *k, int vcpu, const struct arch_cpu *cpu, struct snapshot_part *p)
{
	struct fixed f;
	const struct part before[] = {
		{KVM_SET_MP_STATE, &f.mp_state, "MP_STATE"},
		{KVM_SET_REGS, &f.regs, "REGS"},
		{KVM_SET_SREGS, &f.sregs, "SREGS"},
	};
	const struct part xcrs = {KVM_SET_XCRS, &f.xcrs, "XCRS"};
	const struct part after[] = {
		{KVM_SET_DEBUGREGS, &f.debug, "DEBUGREGS"},
		{KVM_SET_LAPIC, &f.lapic, "LAPIC"},
	};
	int r = snapshot_get(p, &f, sizeof(f));

	if (r >= 0)
		r = check_fixed(k, &f);
	if (r >= 0)
		r = check_cpuid(k, cpu, p, f.cpuid_count);
	if (r >= 0)
		r = load_tsc_khz(vcpu, f.tsc_khz);
	if (r >= 0)
		r = call_all(vcpu, before, ARRAY_SIZE(before), "set");
	if (r >= 0)
		r = load_xsave(vcpu, p, f.xsave_len);
	/*
	 * Skips the XCRs on a CPU without XSAVE, because KVM reports none there, and KVM_SET_XCRS
	 * fails if it gets none.
	 */
	if (r >= 0 && f.xcrs.nr_xcrs > 0)
		r = call_all(vcpu, &xcrs, 1, "set");
	if (r >= 0)
		r = call_all(vcpu, after, ARRAY_SIZE(after), "set");
	if (r >= 0 && cpu->index == 0)
		r = leave_tsc(vcpu);
	if (r >= 0)
		r = load_msrs(vcpu, p, f.msr_count);
	if (r >= 0 && ioctl(vcpu, KVM_SET_VCPU_EVENTS, &f.events) < 0)
		r = err_sys("set VCPU_EVENTS");
	return r < 0 ? r : snapshot_end(p);
}

void arch_tell_pause(int vcpu)
{
	/*
	 * The ioctl fails if the guest does not use kvm-clock. The error is ignored, because the
	 * guest then has no flag that could tell its watchdog of the pause.
	 */
	(void)ioctl(vcpu, KVM_KVMCLOCK_CTRL, 0);
}

/* --- The whole machine: saves and loads the interrupt controllers and the clock --- */

int arch_save_vm(const struct vm_kvm *k, struct snapshot_writer *w)
{
	struct vm_state s = {0};

	for (uint32_t i = 0; i < ARRAY_SIZE(s.chips); i++) {
		s.chips[i].chip_id = i;
		if (ioctl(k->vm, KVM_GET_IRQCHIP, &s.chips[i]) < 0)
			return err_sys("read interrupt controller %" PRIu32, i);
	}
	if (ioctl(k->vm, KVM_GET_CLOCK, &s.clock) < 0)
		return err_sys("read KVM's clock");
	return snapshot_put(w, &s, sizeof(s));
}

int arch_load_vm(const struct vm_kvm *k, struct snapshot_part *p)
{
	struct vm_state s;
	int r = snapshot_get(p, &s, sizeof(s));

	if (r >= 0)
		r = snapshot_end(p);
	for (uint32_t i = 0; r >= 0 && i < ARRAY_SIZE(s.chips); i++) {
		s.chips[i].chip_id = i;
		if (ioctl(k->vm, KVM_SET_IRQCHIP, &s.chips[i]) < 0)
			r = err_sys("set interrupt controller %" PRIu32, i);
	}
	/*
	 * Sets only the time, because the flags would make KVM add the time that has passed since
	 * the snapshot.
	 */
	const struct kvm_clock_data clock = {.clock = s.clock.clock};
	if (r >= 0 && ioctl(k->vm, KVM_SET_CLOCK, &clock) < 0)
		r = err_sys("set KVM's clock");
	return r;
}
