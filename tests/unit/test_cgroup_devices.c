/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the BPF program that decides which devices the processes of a cgroup may use. An
 * interpreter in this file runs the program, and the test compares its answers with those of a
 * plain reading of the device rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cgroups/cg_internal.h"

/*
 * Interprets a BPF program. The interpreter knows the instructions that cg_device_program() may
 * use; any other instruction fails the test. Returns the program's result.
 */
static int run(const struct bpf_insn *p, size_t n, struct bpf_cgroup_dev_ctx *ctx)
{
	uint64_t reg[11] = {0};

	reg[1] = (uint64_t)(uintptr_t)ctx;
	for (size_t pc = 0, steps = 0; pc < n && steps < 100000; pc++, steps++) {
		const struct bpf_insn *i = &p[pc];
		uint32_t dst = (uint32_t)reg[i->dst_reg], imm = (uint32_t)i->imm;
		switch (i->code) {
		case BPF_LDX | BPF_MEM | BPF_W:
			reg[i->dst_reg] =
				*(uint32_t *)(uintptr_t)(reg[i->src_reg] + (uint64_t)i->off);
			break;
		case BPF_ALU | BPF_MOV | BPF_X:
			reg[i->dst_reg] = (uint32_t)reg[i->src_reg];
			break;
		case BPF_ALU | BPF_MOV | BPF_K:
			reg[i->dst_reg] = imm;
			break;
		case BPF_ALU | BPF_RSH | BPF_K:
			reg[i->dst_reg] = dst >> imm;
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			reg[i->dst_reg] = dst & imm;
			break;
		case BPF_JMP32 | BPF_JNE | BPF_K:
			pc += dst != imm ? (size_t)i->off : 0;
			break;
		case BPF_ALU | BPF_LSH | BPF_X:
			assert_true(reg[i->src_reg] < 32);
			reg[i->dst_reg] = dst << reg[i->src_reg];
			break;
		case BPF_JMP32 | BPF_JEQ | BPF_K:
			pc += dst == imm ? (size_t)i->off : 0;
			break;
		case BPF_JMP32 | BPF_JGE | BPF_K:
			pc += dst >= imm ? (size_t)i->off : 0;
			break;
		case BPF_JMP32 | BPF_JSET | BPF_K:
			pc += dst & imm ? (size_t)i->off : 0;
			break;
		case BPF_JMP | BPF_JA:
			pc += (size_t)i->off;
			break;
		case BPF_JMP | BPF_EXIT:
			return (int)reg[0];
		default:
			fail_msg("instruction %#x", i->code);
		}
	}
	fail_msg("the program does not end");
	return -1;
}

static int bit_of(char c)
{
	return c == 'r' ? BPF_DEVCG_ACC_READ : c == 'w' ? BPF_DEVCG_ACC_WRITE : BPF_DEVCG_ACC_MKNOD;
}

/*
 * Decides in the plainest way that resources.h allows: for each access, the last rule in the list
 * that names this access decides.
 */
static bool reference(const struct cg_device_rule *rules, size_t n, char type, uint32_t major,
	uint32_t minor, int access)
{
	for (int bit = 1; bit < 8; bit <<= 1) {
		bool allow = n == 0;
		if (!(access & bit))
			continue;
		for (size_t i = 0; i < n; i++) {
			bool names = !*rules[i].access;
			for (const char *c = rules[i].access; *c; c++)
				names |= bit_of(*c) == bit;
			if (names && (rules[i].type == 'a' || rules[i].type == type) &&
				(rules[i].major < 0 || rules[i].major == major) &&
				(rules[i].minor < 0 || rules[i].minor == minor))
				allow = rules[i].allow;
		}
		if (!allow)
			return false;
	}
	return true;
}

static void compare(const struct cg_device_rule *rules, size_t n)
{
	static const uint32_t numbers[] = {0, 1, 31, 32, 0x80000000u, UINT32_MAX};
	_cleanup_free_ struct bpf_insn *insns = NULL;
	size_t ninsns;

	assert_int_equal(cg_device_program(rules, n, &insns, &ninsns), 0);
	for (int t = 0; t < 2; t++)
		for (size_t ma = 0; ma < ARRAY_SIZE(numbers); ma++)
			for (size_t mi = 0; mi < ARRAY_SIZE(numbers); mi++)
				for (uint32_t access = 1; access < 8; access++) {
					struct bpf_cgroup_dev_ctx ctx = {
						.access_type =
							access << 16 | (t ? BPF_DEVCG_DEV_BLOCK
									  : BPF_DEVCG_DEV_CHAR),
						.major = numbers[ma],
						.minor = numbers[mi]};
					bool want = reference(rules, n, t ? 'b' : 'c', ctx.major,
						ctx.minor, (int)access);
					bool got = !ninsns || run(insns, ninsns, &ctx);
					assert_int_equal(got, want);
				}
}

static void test_device_program(void **state)
{
	static const int64_t numbers[] = {-1, 0, 1, 31, 32, 0x80000000, UINT32_MAX};
	static const char *const accesses[] = {"", "r", "w", "m", "rw", "rm", "wm", "rwm"};
	const struct cg_device_rule deny_all = {false, 'a', -1, -1, "rwm"};
	const struct cg_device_rule allow_all = {true, 'a', -1, -1, ""};
	struct cg_device_rule rules[12];
	unsigned seed = 1;

	/*
	 * The test draws hundreds of random lists. The first ones are short, and every second one
	 * begins as the lists of engines such as Docker do.
	 */
	for (size_t round = 0; round < 600; round++) {
		size_t n = 1 + round % ARRAY_SIZE(rules);
		for (size_t i = 0; i < n; i++)
			rules[i] = (struct cg_device_rule){.allow = rand_r(&seed) % 3 > 0,
				.type = "acb"[rand_r(&seed) % 3],
				.major = numbers[(size_t)rand_r(&seed) % ARRAY_SIZE(numbers)],
				.minor = numbers[(size_t)rand_r(&seed) % ARRAY_SIZE(numbers)],
				.access = accesses[(size_t)rand_r(&seed) % ARRAY_SIZE(accesses)]};
		/*
		 * Consecutive rules get the same major number, as they often have in real lists of
		 * devices.
		 */
		for (size_t i = 1; i < n && round % 3 == 0; i++) {
			int64_t minor = rules[i].minor;
			rules[i] = rules[i - 1];
			rules[i].minor = minor;
		}
		if (round & 1)
			rules[0] = round & 2 ? deny_all : allow_all;
		compare(rules, n);
	}
}

static void test_device_program_empty(void **state)
{
	struct cg_device_rule rules[] = {{false, 'a', -1, -1, "rwm"}, {true, 'c', -1, -1, "rwm"},
		{true, 'b', -1, -1, "rw"}, {true, 'b', -1, -1, "m"}, {true, 'c', 1, 3, "r"}};
	struct bpf_insn *insns;
	size_t n;

	/*
	 * The last rule of the list allows everything again, so there must be no program to load.
	 */
	assert_int_equal(cg_device_program(rules, ARRAY_SIZE(rules), &insns, &n), 0);
	assert_int_equal(n, 0);
	assert_null(insns);
	assert_int_equal(cg_device_program(NULL, 0, &insns, &n), 0);
	assert_int_equal(n, 0);
	rules[4].allow = false;
	assert_int_equal(cg_device_program(rules, ARRAY_SIZE(rules), &insns, &n), 0);
	assert_true(n > 0);
	free(insns);
	rules[2].access = "rx";
	assert_int_equal(cg_device_program(rules, ARRAY_SIZE(rules), &insns, &n), -EINVAL);
	assert_non_null(strstr(err_msg(), "linux.resources.devices[2].access"));
	rules[2].access = "r";
	rules[1].type = 'p';
	assert_int_equal(cg_device_program(rules, ARRAY_SIZE(rules), &insns, &n), -EINVAL);
	rules[1] = (struct cg_device_rule){true, 'c', 1ll << 32, 0, "r"};
	assert_int_equal(cg_device_program(rules, ARRAY_SIZE(rules), &insns, &n), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_device_program),
		cmocka_unit_test(test_device_program_empty),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
