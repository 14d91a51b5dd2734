/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why: glibc tries a new system call and falls back to an old one when it gets ENOSYS. A profile
 * written before the new call existed answers it with its default action, mostly EPERM, and
 * programs break on a newer kernel or distribution. runc therefore answers ENOSYS for every number
 * larger than the largest the profile names (on that architecture), on the ground that whoever
 * wrote the profile knew of the calls up to there.
 *
 * Here the same is done where the default action is "return an error": which error is then a
 * detail. A default of killing, tracing or notifying is a policy, and stays what the configuration
 * says (runc's stub covers killing too). A default of ENOSYS needs no stub.
 *
 * The program: load the architecture; for each architecture of the filter, unless it is this one,
 * skip its section; a section loads the call's number, returns ENOSYS if that is too large, and
 * else jumps to the end, where libseccomp's program begins with loads of its own.
 */
#include "step/seccomp_stub.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>

#define X32_BIT 0x40000000 /* __X32_SYSCALL_BIT: how x32's calls are told from x86-64's */
#define MAX_SECTIONS 24    /* more than libseccomp knows architectures */
#define SECTION_SIZE 12    /* instructions, at most */

struct section {
	uint32_t arch; /* AUDIT_ARCH_* */
	int last;      /* the largest number that the profile names; -1: names none */
	int last_x32;  /* x86-64 only */
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
			 * Negative: libseccomp's own numbers for calls that the architecture lacks.
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
	/* SCMP_ARCH_* are AUDIT_ARCH_*, but for x32, which the kernel reports as x86-64. */
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

/* Jumps to the end have a placeholder for their distance, which seccomp_stub() fills in. */
static void emit_section(struct prog *p, const struct section *s)
{
	const struct sock_filter to_end = BPF_STMT(BPF_JMP | BPF_JA, UINT32_MAX);
	size_t first = p->n;

	emit(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, s->arch, 0, 0));
	emit(p, (struct sock_filter)BPF_STMT(
			BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)));
	if (s->arch == SCMP_ARCH_X86_64) {
		/* A mode that is not in the profile goes to libseccomp's program, which kills. */
		uint8_t native = s->last >= 0 ? 3 : 1;
		emit(p, (struct sock_filter)BPF_JUMP(
				BPF_JMP | BPF_JSET | BPF_K, X32_BIT, native, 0));
		emit_limit(p, s->last);
		emit(p, to_end);
		emit_limit(p, s->last_x32);
	} else {
		if (s->arch == SCMP_ARCH_S390 || s->arch == SCMP_ARCH_S390X) {
			/*
			 * A number too large for the instruction that makes the call, and unknown,
			 * arrives as 0.
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
