/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adds to a filter the part that answers ENOSYS for system calls that are newer than the profile.
 *
 * glibc tries a new system call first and uses an old one instead if it gets ENOSYS. A profile that
 * is older than the new call answers with the profile's default action, mostly EPERM, and so
 * programs fail on a newer kernel or distribution. Therefore runc answers ENOSYS for every number
 * above the largest one that the profile names (on the architecture of the call), because the
 * author of the profile can only have known the calls up to there.
 *
 * caisson also answers ENOSYS for these numbers if the default action is to return an error. A
 * default of killing, tracing or notifying is a policy and stays as the configuration says,
 * although runc's stub covers killing too. A default of ENOSYS needs no stub.
 *
 * The part is a BPF program. It loads the architecture of the call. The program has a section for
 * each architecture of the filter, and skips the sections of other architectures. A section loads
 * the number of the call and returns ENOSYS if the number is too large. Otherwise the section jumps
 * to the program's end, where libseccomp's program begins.
 */
#include "filter/stub.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>

/*
 * the kernel's __X32_SYSCALL_BIT, which is set in the numbers of x32 calls and not in those of
 * x86-64
 */
#define X32_BIT 0x40000000
/* how many architectures a filter can have at most; libseccomp knows fewer */
#define MAX_SECTIONS 24
/* largest number of instructions in the section of the program for one architecture */
#define SECTION_SIZE 12

struct section {
	uint32_t arch; /* architecture of the section (AUDIT_ARCH_*) */
	/*
	 * largest call number that the profile names; -1: the profile names no call of this
	 * architecture
	 */
	int last;
	/*
	 * on x86-64: the largest number of an x32 call that the profile names; -1: the profile
	 * names no x32 call
	 */
	int last_x32;
};

struct prog {
	struct sock_filter f[MAX_SECTIONS * SECTION_SIZE + 1];
	size_t n;
};

static void emit(struct prog *p, struct sock_filter f)
{
	p->f[p->n++] = f;
}

static int last_call(const struct spec_seccomp *s, uint32_t arch)
{
	int last = -1;

	for (size_t i = 0; i < s->nrules; i++) {
		for (size_t n = 0; n < s->rules[i].names.n; n++) {
			/*
			 * If the architecture does not have the system call, libseccomp returns a
			 * negative number that it has made up for the call.
			 */
			int nr = seccomp_syscall_resolve_name_arch(arch, s->rules[i].names.v[n]);
			if (nr > last)
				last = nr;
		}
	}
	return last;
}

static void add_section(
	struct section *sections, size_t *n, const struct spec_seccomp *s, uint32_t arch)
{
	/*
	 * The values of libseccomp's SCMP_ARCH_* are equal to the kernel's AUDIT_ARCH_*, except for
	 * x32, which the kernel reports as x86-64.
	 */
	uint32_t audit = arch == SCMP_ARCH_X32 ? SCMP_ARCH_X86_64 : arch;
	size_t i = 0;

	while (i < *n && sections[i].arch != audit)
		i++;
	if (i == MAX_SECTIONS)
		return;
	if (i == *n)
		sections[(*n)++] = (struct section){.arch = audit, .last = -1, .last_x32 = -1};
	*(arch == SCMP_ARCH_X32 ? &sections[i].last_x32 : &sections[i].last) = last_call(s, arch);
}

static void emit_limit(struct prog *p, int last)
{
	if (last < 0)
		return;
	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (uint32_t)last, 0, 1));
	emit(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
}

/*
 * Writes the section of the program that handles the calls of one architecture. The distance of the
 * section's jump to the program's end is a placeholder, which seccomp_stub() fills in later.
 */
static void emit_section(struct prog *p, const struct section *s)
{
	const struct sock_filter to_end = BPF_STMT(BPF_JMP | BPF_JA, UINT32_MAX);
	size_t first = p->n;

	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, s->arch, 0, 0));
	emit(p, (struct sock_filter)BPF_STMT(
			BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
	if (s->arch == SCMP_ARCH_X86_64) {
		/*
		 * A profile may name only calls of x86-64 or only calls of x32. Then this program
		 * passes on the calls of the mode without names to libseccomp's program, which
		 * kills the process that makes such a call.
		 */
		uint8_t native = s->last >= 0 ? 3 : 1;
		emit(p, (struct sock_filter)BPF_JUMP(
				BPF_JMP | BPF_JSET | BPF_K, X32_BIT, native, 0));
		emit_limit(p, s->last);
		emit(p, to_end);
		emit_limit(p, s->last_x32);
	} else {
		if (s->arch == SCMP_ARCH_S390 || s->arch == SCMP_ARCH_S390X) {
			/*
			 * On s390, system call 0 gets ENOSYS too, because the kernel reports number
			 * 0 for a call whose number does not fit into the instruction that makes
			 * the call.
			 */
			emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1));
			emit(p, (struct sock_filter)BPF_STMT(
					BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS));
		}
		emit_limit(p, s->last);
	}
	emit(p, to_end);
	p->f[first].jf = (uint8_t)(p->n - first - 1);
}

int seccomp_stub(const struct spec_seccomp *s, struct strbuf *program)
{
	struct section sections[MAX_SECTIONS];
	struct prog p = {0};
	size_t n = 0;

	if ((s->default_action & SECCOMP_RET_ACTION_FULL) != SECCOMP_RET_ERRNO ||
		(s->default_action & SECCOMP_RET_DATA) == ENOSYS)
		return 0;
	add_section(sections, &n, s, seccomp_arch_native());
	for (size_t i = 0; i < s->narchitectures; i++)
		add_section(sections, &n, s,
			s->architectures[i] == SCMP_ARCH_NATIVE ? seccomp_arch_native()
								: s->architectures[i]);
	emit(&p, (struct sock_filter)BPF_STMT(
			 BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)));
	for (size_t i = 0; i < n; i++)
		emit_section(&p, &sections[i]);
	for (size_t i = 0; i < p.n; i++)
		if (p.f[i].code == (BPF_JMP | BPF_JA))
			p.f[i].k = (uint32_t)(p.n - i - 1);
	return strbuf_add(program, p.f, p.n * sizeof(p.f[0]));
}
