/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rig/seccomp.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/fd.h"
#include "filter/filter.h"
#include "step/step.h"

void read_program(int fd, struct program *ret)
{
	ssize_t n = read(fd, ret->f, sizeof(ret->f));

	assert_true(n > 0 && n % (ssize_t)sizeof(ret->f[0]) == 0);
	ret->n = (size_t)n / sizeof(ret->f[0]);
}

void compile_profile(const struct spec_seccomp *s, struct program *ret)
{
	_cleanup_fd_ int fd = seccomp_compile(s, -EBADF);

	if (fd < 0)
		fail_msg("%s", err_msg());
	read_program(fd, ret);
}

uint32_t run_program(const struct program *p, uint32_t arch, int nr, const uint64_t args[6])
{
	struct seccomp_data d = {.nr = nr, .arch = arch};
	uint32_t a = 0;

	if (args)
		memcpy(d.args, args, sizeof(d.args));
	for (size_t pc = 0; pc < p->n; pc++) {
		const struct sock_filter *f = &p->f[pc];
		bool yes = false;
		switch (f->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			assert_true(f->k + 4 <= sizeof(d));
			memcpy(&a, (const char *)&d + f->k, 4);
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= f->k;
			continue;
		case BPF_RET | BPF_K:
			return f->k;
		case BPF_JMP | BPF_JA:
			pc += f->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			yes = a == f->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			yes = a > f->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			yes = a >= f->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			yes = a & f->k;
			break;
		default:
			fail_msg("instruction %zu has the code 0x%x", pc, f->code);
		}
		pc += yes ? f->jt : f->jf;
	}
	fail_msg("the program runs past its end");
	return 0;
}

uint32_t decision(const struct program *p, const char *name, uint64_t arg0)
{
	return run_program(p, seccomp_arch_native(), seccomp_syscall_resolve_name(name),
		(const uint64_t[6]){arg0});
}
