/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares the interpreter of system call filters with the kernel: each program is loaded in a
 * child, which makes a system call that the filter decides, and the interpreter must give the same
 * answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/str.h"
#include "step/seccomp_sim.h"

#define ARG(n) (uint32_t) offsetof(struct seccomp_data, args[n])
#define LOAD(k) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, k)
#define ANSWER_A BPF_STMT(BPF_RET | BPF_A, 0)
#define LENGTH_MAX 16

/*
 * Returns the kernel's answer to getpriority(a, b) under the program: SECCOMP_RET_ERRNO with an
 * errno, or SECCOMP_RET_ALLOW. The kernel allows all other calls of the child without running the
 * program.
 */
static uint32_t ask_kernel(const struct sock_filter *f, size_t n, const struct seccomp_data *d)
{
	struct sock_filter all[LENGTH_MAX + 3] = {
		LOAD(offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpriority, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	int status;

	memcpy(all + 3, f, n * sizeof(*f));
	const struct sock_fprog p = {.len = (unsigned short)(n + 3), .filter = all};
	pid_t pid = fork();
	if (pid == 0) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
			syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &p) < 0)
			_exit(255);
		long r = syscall(SYS_getpriority, d->args[0], d->args[1]);
		_exit(r < 0 ? errno : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status))
		return SECCOMP_RET_KILL_PROCESS;
	assert_int_not_equal(WEXITSTATUS(status), 255);
	return WEXITSTATUS(status) ? SECCOMP_RET_ERRNO | (uint32_t)WEXITSTATUS(status)
				   : SECCOMP_RET_ALLOW;
}

/*
 * Instructions that turn any value of the register A into an errno from 1 to 127 and return it, so
 * that the kernel's answer shows the value.
 */
static const struct sock_filter to_errno[] = {
	BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x3f),
	BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO | 0x40),
	ANSWER_A,
};

static void compare(const struct sock_filter *f, size_t n)
{
	static const uint64_t values[][2] = {
		{0, 0}, {1, 2}, {0xfffffff1, 3}, {40, 0x8000000000000007}};
	struct sock_filter all[LENGTH_MAX];

	assert_true(n + ARRAY_SIZE(to_errno) <= LENGTH_MAX);
	memcpy(all, f, n * sizeof(*f));
	memcpy(all + n, to_errno, sizeof(to_errno));
	n += ARRAY_SIZE(to_errno);
	for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
		const struct seccomp_data d = {.nr = SYS_getpriority,
			.arch = seccomp_native_arch(),
			.args = {values[i][0], values[i][1]}};
		uint32_t kernel = ask_kernel(all, n, &d);
		assert_int_equal(seccomp_simulate(all, n, &d), kernel);
	}
}

static void test_arithmetic(void **state)
{
	static const uint16_t ops[] = {
		BPF_ADD, BPF_SUB, BPF_MUL, BPF_DIV, BPF_AND, BPF_OR, BPF_XOR, BPF_LSH, BPF_RSH};

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		const struct sock_filter by_constant[] = {
			LOAD(ARG(0)), BPF_STMT(BPF_ALU | ops[i] | BPF_K, 5)};
		const struct sock_filter by_x[] = {LOAD(ARG(1)), BPF_STMT(BPF_MISC | BPF_TAX, 0),
			LOAD(ARG(0)), BPF_STMT(BPF_ALU | ops[i] | BPF_X, 0)};
		compare(by_constant, ARRAY_SIZE(by_constant));
		/*
		 * The loop leaves out division, because some pairs of values have 0 as the divisor,
		 * and the kernel ends a filter that divides by 0.
		 */
		if (ops[i] != BPF_DIV)
			compare(by_x, ARRAY_SIZE(by_x));
	}
	const struct sock_filter negated[] = {LOAD(ARG(0)), BPF_STMT(BPF_ALU | BPF_NEG, 0)};
	compare(negated, ARRAY_SIZE(negated));
}

static void test_jumps(void **state)
{
	static const uint16_t ops[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		const struct sock_filter f[] = {LOAD(ARG(0)),
			BPF_JUMP(BPF_JMP | ops[i] | BPF_K, 1, 1, 0), BPF_STMT(BPF_LD | BPF_IMM, 11),
			BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0), BPF_STMT(BPF_LD | BPF_IMM, 22),
			BPF_STMT(BPF_ALU | BPF_ADD | BPF_K, 1)};
		const struct sock_filter by_x[] = {LOAD(ARG(1)), BPF_STMT(BPF_MISC | BPF_TAX, 0),
			LOAD(ARG(0)), BPF_JUMP(BPF_JMP | ops[i] | BPF_X, 0, 0, 1),
			BPF_STMT(BPF_LD | BPF_IMM, 33)};
		compare(f, ARRAY_SIZE(f));
		compare(by_x, ARRAY_SIZE(by_x));
	}
}

static void test_loads(void **state)
{
	const struct sock_filter memory[] = {LOAD(ARG(0)), BPF_STMT(BPF_ST, 3),
		BPF_STMT(BPF_LDX | BPF_IMM, 9), BPF_STMT(BPF_STX, 15), LOAD(ARG(1) + 4),
		BPF_STMT(BPF_LDX | BPF_MEM, 3), BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
		BPF_STMT(BPF_MISC | BPF_TAX, 0), BPF_STMT(BPF_LD | BPF_MEM, 15),
		BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0)};
	const struct sock_filter length[] = {BPF_STMT(BPF_LD | BPF_W | BPF_LEN, 0),
		BPF_STMT(BPF_LDX | BPF_W | BPF_LEN, 0), BPF_STMT(BPF_MISC | BPF_TXA, 0)};
	const struct sock_filter arch[] = {LOAD(offsetof(struct seccomp_data, arch))};

	compare(memory, ARRAY_SIZE(memory));
	compare(length, ARRAY_SIZE(length));
	compare(arch, ARRAY_SIZE(arch));
}

/*
 * Checks that the interpreter does not run beyond the end of malformed programs, which the kernel
 * would refuse.
 */
static void test_broken_programs(void **state)
{
	static const struct sock_filter broken[][3] = {
		{LOAD(2), ANSWER_A},
		{LOAD(64), ANSWER_A},
		{BPF_STMT(BPF_LD | BPF_MEM, 16), ANSWER_A},
		{BPF_STMT(BPF_ST, 0xffffffff), ANSWER_A},
		{BPF_JUMP(BPF_JMP | BPF_JA, 0xfffffffe, 0, 0), ANSWER_A},
		{BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 1, 200, 200), ANSWER_A},
		{BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), ANSWER_A},
		{BPF_STMT(BPF_LD | BPF_B | BPF_IND, 0), ANSWER_A},
		{{.code = 0xffff}, ANSWER_A},
	};
	const struct seccomp_data d = {.nr = SYS_getpriority};

	for (size_t i = 0; i < ARRAY_SIZE(broken); i++)
		assert_int_equal(seccomp_simulate(broken[i], 2, &d), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(seccomp_simulate(NULL, 0, &d), SECCOMP_RET_KILL_PROCESS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arithmetic),
		cmocka_unit_test(test_jumps),
		cmocka_unit_test(test_loads),
		cmocka_unit_test(test_broken_programs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
