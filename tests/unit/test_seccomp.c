/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests compiled seccomp filters with an interpreter of classic BPF (rig/seccomp.c), which tells
 * what a program decides about any call on any architecture.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fd.h"
#include "filter/filter.h"
#include "filter/stub.h"
#include "step/step.h"
#include "unit/rig/child.h"
#include "unit/rig/seccomp.h"

static void test_allow_list(void **state)
{
	const struct spec_seccomp_rule rules[] = {
		{.names = NAMES("read", "write", "no_such_call", "close_range"),
			.action = SCMP_ACT_ALLOW},
		{.names = NAMES("mkdir"), .action = SCMP_ACT_ERRNO(ENOTTY)},
		{.names = NAMES("reboot"), .action = SCMP_ACT_KILL_PROCESS},
		{.names = NAMES("mount"), .action = EPERM_DEFAULT},
	};
	const struct spec_seccomp s = PROFILE(EPERM_DEFAULT, rules);
	struct program p;

	compile_profile(&s, &p);
	assert_int_equal(decision(&p, "read", 0), SECCOMP_RET_ALLOW);
	assert_int_equal(decision(&p, "close_range", 0), SECCOMP_RET_ALLOW);
	assert_int_equal(decision(&p, "mkdir", 0), SECCOMP_RET_ERRNO | ENOTTY);
	assert_int_equal(decision(&p, "reboot", 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(decision(&p, "mount", 0), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(decision(&p, "unlink", 0), SECCOMP_RET_ERRNO | EPERM);
	/* A call on an architecture that is not in the profile must kill the thread. */
	assert_int_equal(run_program(&p, SCMP_ARCH_S390X, 3, NULL), SECCOMP_RET_KILL_THREAD);
}

static void test_arguments(void **state)
{
	const struct spec_seccomp_arg masked[] = {{0, 0x7e020000, 0, SCMP_CMP_MASKED_EQ}};
	const struct spec_seccomp_arg not_vsock[] = {{0, 40, 0, SCMP_CMP_NE}};
	const struct spec_seccomp_arg both[] = {{0, 1, 0, SCMP_CMP_EQ}, {1, 5, 0, SCMP_CMP_GT}};
	const struct spec_seccomp_arg either[] = {{0, 0, 0, SCMP_CMP_EQ}, {0, 8, 0, SCMP_CMP_EQ}};
	const struct spec_seccomp_arg wide[] = {{0, 0x100000002, 0, SCMP_CMP_GE}};
	const struct spec_seccomp_rule rules[] = {
		{.names = NAMES("clone"), .action = SCMP_ACT_ALLOW, .args = masked, .nargs = 1},
		{.names = NAMES("socket"), .action = SCMP_ACT_ALLOW, .args = not_vsock, .nargs = 1},
		{.names = NAMES("ioctl"), .action = SCMP_ACT_ALLOW, .args = both, .nargs = 2},
		{.names = NAMES("personality"),
			.action = SCMP_ACT_ALLOW,
			.args = either,
			.nargs = 2},
		{.names = NAMES("lseek"), .action = SCMP_ACT_ALLOW, .args = wide, .nargs = 1},
	};
	const struct spec_seccomp s = PROFILE(EPERM_DEFAULT, rules);
	const uint32_t no = SECCOMP_RET_ERRNO | EPERM, yes = SECCOMP_RET_ALLOW;
	struct program p;

	compile_profile(&s, &p);
	assert_int_equal(decision(&p, "clone", SIGCHLD), yes);
	assert_int_equal(decision(&p, "clone", CLONE_NEWUSER), no);
	assert_int_equal(decision(&p, "socket", 2), yes);
	assert_int_equal(decision(&p, "socket", 40), no);
	/* If a rule compares different arguments, all comparisons must be true. */
	int nr = seccomp_syscall_resolve_name("ioctl");
	assert_int_equal(
		run_program(&p, seccomp_arch_native(), nr, (const uint64_t[6]){1, 6}), yes);
	assert_int_equal(run_program(&p, seccomp_arch_native(), nr, (const uint64_t[6]){1, 5}), no);
	assert_int_equal(run_program(&p, seccomp_arch_native(), nr, (const uint64_t[6]){2, 6}), no);
	/* If a rule compares one argument several times, one true comparison is enough. */
	assert_int_equal(decision(&p, "personality", 0), yes);
	assert_int_equal(decision(&p, "personality", 8), yes);
	assert_int_equal(decision(&p, "personality", 1), no);
	assert_int_equal(decision(&p, "lseek", 0x100000002), yes);
	assert_int_equal(decision(&p, "lseek", 0x100000001), no);
	assert_int_equal(decision(&p, "lseek", 2), no);
}

#ifdef __x86_64__
static void test_architectures(void **state)
{
	const uint32_t archs[] = {SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_X32};
	const struct spec_seccomp_rule rules[] = {
		{.names = NAMES("read", "openat2", "mkdir"), .action = SCMP_ACT_ALLOW}};
	struct spec_seccomp s = PROFILE(EPERM_DEFAULT, rules);
	const uint32_t allow = SECCOMP_RET_ALLOW, eperm = SECCOMP_RET_ERRNO | EPERM,
		       enosys = SECCOMP_RET_ERRNO | ENOSYS, kill = SECCOMP_RET_KILL_THREAD;
	const int x32 = 0x40000000, last = 437; /* system call 437 is openat2 */
	struct program p;

	s.architectures = archs;
	s.narchitectures = 3;
	compile_profile(&s, &p);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, 0, NULL), allow);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86, 3, NULL), allow);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, x32, NULL), allow);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, 87, NULL), eperm);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86, 10, NULL), eperm);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, x32 | 87, NULL), eperm);
	/*
	 * The profile's default action must apply to calls up to the newest one that the profile
	 * names. Newer calls must get ENOSYS.
	 */
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, last - 1, NULL), eperm);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, last, NULL), allow);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, last + 1, NULL), enosys);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86, last + 1, NULL), enosys);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, x32 | (last + 1), NULL), enosys);
	assert_int_equal(run_program(&p, SCMP_ARCH_AARCH64, last + 1, NULL), kill);
	/*
	 * If the profile does not list x32, calls of x32 must be treated as calls of a wrong
	 * architecture, whether or not they are newer than the newest call that the profile names.
	 */
	s.narchitectures = 2;
	compile_profile(&s, &p);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, x32 | (last + 1), NULL), kill);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, x32, NULL), kill);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, last + 1, NULL), enosys);
	/* The profile does not have to list the machine's own architecture. */
	s.architectures = &archs[1];
	s.narchitectures = 1;
	compile_profile(&s, &p);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, 0, NULL), allow);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, last + 1, NULL), enosys);
	const uint32_t big_endian[] = {SCMP_ARCH_X86_64, SCMP_ARCH_S390X};
	s.architectures = big_endian;
	s.narchitectures = 2;
	/*
	 * If a profile lists architectures that no process of this machine's kernel can have, the
	 * program must stay the same. The compiler accepts such architectures, because `caisson
	 * features` lists them and profiles name them.
	 */
	compile_profile(&s, &p);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, 0, NULL), allow);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, 87, NULL), eperm);
	assert_int_equal(run_program(&p, SCMP_ARCH_S390X, 3, NULL), kill);
}

static void test_stub_of_other_machines(void **state)
{
	const uint32_t archs[] = {SCMP_ARCH_S390X, SCMP_ARCH_AARCH64};
	const struct spec_seccomp_rule rules[] = {
		{.names = NAMES("read", "openat2"), .action = SCMP_ACT_ALLOW}};
	struct spec_seccomp s = PROFILE(EPERM_DEFAULT, rules);
	const struct sock_filter end = BPF_STMT(BPF_RET | BPF_K, 0x1234);
	const uint32_t enosys = SECCOMP_RET_ERRNO | ENOSYS;
	_cleanup_strbuf_ struct strbuf b = {0};
	struct program p;

	s.architectures = archs;
	s.narchitectures = 2;
	assert_int_equal(seccomp_stub(&s, &b), 0);
	assert_int_equal(strbuf_add(&b, &end, sizeof(end)), 0);
	memcpy(p.f, b.s, b.len);
	p.n = b.len / sizeof(end);
	assert_int_equal(run_program(&p, SCMP_ARCH_S390X, 0, NULL), enosys);
	assert_int_equal(run_program(&p, SCMP_ARCH_S390X, 437, NULL), 0x1234);
	assert_int_equal(run_program(&p, SCMP_ARCH_S390X, 438, NULL), enosys);
	assert_int_equal(run_program(&p, SCMP_ARCH_AARCH64, 0, NULL), 0x1234);
	assert_int_equal(run_program(&p, SCMP_ARCH_AARCH64, 438, NULL), enosys);
	assert_int_equal(run_program(&p, SCMP_ARCH_X86_64, 438, NULL), enosys);
	assert_int_equal(run_program(&p, SCMP_ARCH_PPC64LE, 438, NULL), 0x1234);
}

#endif

/*
 * Checks that calls which are newer than every call that the profile names get ENOSYS only if the
 * default action returns an error, because any other default action is a policy of its own.
 */
static void test_defaults_without_stub(void **state)
{
	static const uint32_t defaults[] = {SCMP_ACT_KILL_PROCESS, SCMP_ACT_TRAP, SCMP_ACT_LOG,
		SCMP_ACT_ERRNO(ENOSYS), SCMP_ACT_TRACE(1)};
	const struct spec_seccomp_rule rules[] = {
		{.names = NAMES("read"), .action = SCMP_ACT_ALLOW}};
	struct program p;

	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
		const struct spec_seccomp s = PROFILE(defaults[i], rules);
		compile_profile(&s, &p);
		assert_int_equal(run_program(&p, seccomp_arch_native(), 450, NULL), defaults[i]);
	}
}

static void test_refused(void **state)
{
	struct spec_seccomp s = {.default_action = SCMP_ACT_NOTIFY, .notify = true};

	assert_int_equal(seccomp_compile(&s, -EBADF), -EINVAL);
	assert_non_null(strstr(err_msg(), "defaultAction: SCMP_ACT_NOTIFY"));
	s = (struct spec_seccomp){
		.default_action = SCMP_ACT_ALLOW, .flags = SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV};
	assert_int_equal(seccomp_compile(&s, -EBADF), -EINVAL);
	assert_non_null(strstr(err_msg(), "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV has no use"));
	s = (struct spec_seccomp){.default_action = 0x12345678};
	assert_int_equal(seccomp_compile(&s, -EBADF), -EINVAL);
	assert_non_null(strstr(err_msg(), "defaultAction: libseccomp does not take 0x12345678"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_allow_list),
		cmocka_unit_test(test_arguments),
#ifdef __x86_64__
		cmocka_unit_test(test_architectures),
		cmocka_unit_test(test_stub_of_other_machines),
#endif
		cmocka_unit_test(test_defaults_without_stub),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
