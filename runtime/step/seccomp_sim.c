/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Interprets the classic BPF that seccomp(2) takes: loads of struct seccomp_data in words of 4
 * bytes, a scratch memory, arithmetic, forward jumps and return. The kernel has not checked the
 * programs that are interpreted here, so the interpreter checks every instruction when it comes to
 * it.
 */
#include "step/seccomp_sim.h"

#include <linux/audit.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define REFUSED SECCOMP_RET_KILL_PROCESS

struct machine {
	uint32_t a, x, memory[BPF_MEMWORDS];
};

uint32_t seccomp_native_arch(void)
{
#if defined(__x86_64__) && !defined(__ILP32__)
	return AUDIT_ARCH_X86_64;
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return AUDIT_ARCH_AARCH64;
#elif defined(__riscv) && __riscv_xlen == 64
	return AUDIT_ARCH_RISCV64;
#else
	return 0;
#endif
}

/*
 * Interprets one arithmetic BPF instruction. Returns false for a division by 0 and for an
 * instruction that the kernel does not know.
 */
static bool compute(struct machine *m, uint16_t code, uint32_t operand)
{
	switch (BPF_OP(code)) {
	case BPF_ADD:
		m->a += operand;
		return true;
	case BPF_SUB:
		m->a -= operand;
		return true;
	case BPF_MUL:
		m->a *= operand;
		return true;
	case BPF_DIV:
		m->a = operand ? m->a / operand : 0;
		return operand != 0;
	case BPF_AND:
		m->a &= operand;
		return true;
	case BPF_OR:
		m->a |= operand;
		return true;
	case BPF_XOR:
		m->a ^= operand;
		return true;
	case BPF_LSH:
		m->a = operand < 32 ? m->a << operand : 0;
		return true;
	case BPF_RSH:
		m->a = operand < 32 ? m->a >> operand : 0;
		return true;
	case BPF_NEG:
		m->a = -m->a;
		return true;
	default:
		return false;
	}
}

static bool is_taken(const struct machine *m, uint16_t code, uint32_t operand)
{
	switch (BPF_OP(code)) {
	case BPF_JEQ:
		return m->a == operand;
	case BPF_JGT:
		return m->a > operand;
	case BPF_JGE:
		return m->a >= operand;
	default: /* The only comparison that the cases above leave is BPF_JSET. */
		return (m->a & operand) != 0;
	}
}

static bool load(struct machine *m, const struct sock_filter *f, const struct seccomp_data *call)
{
	uint32_t *to = BPF_CLASS(f->code) == BPF_LD ? &m->a : &m->x;

	switch (BPF_MODE(f->code)) {
	case BPF_IMM:
		*to = f->k;
		return true;
	case BPF_MEM:
		if (f->k >= BPF_MEMWORDS)
			return false;
		*to = m->memory[f->k];
		return true;
	case BPF_LEN:
		*to = sizeof(*call);
		return true;
	case BPF_ABS:
		if (f->k > sizeof(*call) - sizeof(*to) || f->k % sizeof(*to))
			return false;
		memcpy(to, (const char *)call + f->k, sizeof(*to));
		return true;
	default:
		return false;
	}
}

/*
 * Interprets one BPF instruction that is neither a jump nor a return. Returns false if the
 * instruction is not valid.
 */
static bool step_machine(
	struct machine *m, const struct sock_filter *f, const struct seccomp_data *call)
{
	switch (BPF_CLASS(f->code)) {
	case BPF_LD:
	case BPF_LDX:
		return load(m, f, call);
	case BPF_ST:
	case BPF_STX:
		if (f->k >= BPF_MEMWORDS)
			return false;
		m->memory[f->k] = BPF_CLASS(f->code) == BPF_ST ? m->a : m->x;
		return true;
	case BPF_ALU:
		return compute(m, f->code, BPF_SRC(f->code) == BPF_X ? m->x : f->k);
	case BPF_MISC:
		if (f->code == (BPF_MISC | BPF_TAX))
			m->x = m->a;
		else
			m->a = m->x;
		return f->code == (BPF_MISC | BPF_TAX) || f->code == (BPF_MISC | BPF_TXA);
	default:
		return false;
	}
}

uint32_t seccomp_simulate(
	const struct sock_filter *program, size_t n, const struct seccomp_data *call)
{
	struct machine m = {0};

	/* The loop ends, because jumps in a BPF program only go forward. */
	for (size_t at = 0; at < n; at++) {
		const struct sock_filter *f = &program[at];
		if (BPF_CLASS(f->code) == BPF_RET)
			return BPF_RVAL(f->code) == BPF_A ? m.a : f->k;
		if (f->code == (BPF_JMP | BPF_JA)) {
			if (f->k >= n - at)
				return REFUSED;
			at += f->k;
		} else if (BPF_CLASS(f->code) == BPF_JMP) {
			uint32_t operand = BPF_SRC(f->code) == BPF_X ? m.x : f->k;
			at += is_taken(&m, f->code, operand) ? f->jt : f->jf;
		} else if (!step_machine(&m, f, call)) {
			return REFUSED;
		}
	}
	return REFUSED;
}
