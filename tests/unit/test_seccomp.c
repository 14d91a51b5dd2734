/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compiled filters are judged in two ways: by an interpreter of classic BPF (below), which can ask
 * what a program says to any call on any architecture, and by loading them in a forked child.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
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
#include "step/caps.h"
#include "step/seccomp_stub.h"
#include "step/step.h"
#include "unit/rig/child.h"

#define EPERM_DEFAULT SCMP_ACT_ERRNO(EPERM)
#define NAMES(...) \
	{ \
		(const char *const[]){__VA_ARGS__, NULL}, \
			sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *) \
	}
#define PROFILE(action, list) \
	{ \
		.default_action = (action), .rules = (list), .nrules = ARRAY_SIZE(list) \
	}

struct program {
	struct sock_filter f[BPF_MAXINSNS];
	size_t n;
};

static void read_program(int fd, struct program *ret)
{
	ssize_t n = read(fd, ret->f, sizeof(ret->f));

	assert_true(n > 0 && n % (ssize_t)sizeof(ret->f[0]) == 0);
	ret->n = (size_t)n / sizeof(ret->f[0]);
}

static void compile(const struct spec_seccomp *s, struct program *ret)
{
	_cleanup_fd_ int fd = seccomp_compile(s, -EBADF);

	if (fd < 0)
		fail_msg("%s", err_msg());
	read_program(fd, ret);
}

/* What the filter returns; the instructions are those that libseccomp and the stub emit. */
static uint32_t eval(const struct program *p, uint32_t arch, int nr, const uint64_t args[6])
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

static uint32_t native(const struct program *p, const char *name, uint64_t arg0)
{
	return eval(p, seccomp_arch_native(), seccomp_syscall_resolve_name(name),
		(const uint64_t[6]){arg0});
}

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

	compile(&s, &p);
	assert_int_equal(native(&p, "read", 0), SECCOMP_RET_ALLOW);
	assert_int_equal(native(&p, "close_range", 0), SECCOMP_RET_ALLOW);
	assert_int_equal(native(&p, "mkdir", 0), SECCOMP_RET_ERRNO | ENOTTY);
	assert_int_equal(native(&p, "reboot", 0), SECCOMP_RET_KILL_PROCESS);
	assert_int_equal(native(&p, "mount", 0), SECCOMP_RET_ERRNO | EPERM);
	assert_int_equal(native(&p, "unlink", 0), SECCOMP_RET_ERRNO | EPERM);
	/* An architecture that is not in the profile. */
	assert_int_equal(eval(&p, SCMP_ARCH_S390X, 3, NULL), SECCOMP_RET_KILL_THREAD);
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

	compile(&s, &p);
	assert_int_equal(native(&p, "clone", SIGCHLD), yes);
	assert_int_equal(native(&p, "clone", CLONE_NEWUSER), no);
	assert_int_equal(native(&p, "socket", 2), yes);
	assert_int_equal(native(&p, "socket", 40), no);
	/* Comparisons of different arguments must all hold, ... */
	int nr = seccomp_syscall_resolve_name("ioctl");
	assert_int_equal(eval(&p, seccomp_arch_native(), nr, (const uint64_t[6]){1, 6}), yes);
	assert_int_equal(eval(&p, seccomp_arch_native(), nr, (const uint64_t[6]){1, 5}), no);
	assert_int_equal(eval(&p, seccomp_arch_native(), nr, (const uint64_t[6]){2, 6}), no);
	/* ... of those of one argument, any. */
	assert_int_equal(native(&p, "personality", 0), yes);
	assert_int_equal(native(&p, "personality", 8), yes);
	assert_int_equal(native(&p, "personality", 1), no);
	assert_int_equal(native(&p, "lseek", 0x100000002), yes);
	assert_int_equal(native(&p, "lseek", 0x100000001), no);
	assert_int_equal(native(&p, "lseek", 2), no);
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
	const int x32 = 0x40000000, last = 437; /* openat2 */
	struct program p;

	s.architectures = archs;
	s.narchitectures = 3;
	compile(&s, &p);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, 0, NULL), allow);
	assert_int_equal(eval(&p, SCMP_ARCH_X86, 3, NULL), allow);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, x32, NULL), allow);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, 87, NULL), eperm);
	assert_int_equal(eval(&p, SCMP_ARCH_X86, 10, NULL), eperm);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, x32 | 87, NULL), eperm);
	/* Up to the newest that the profile names: its default; from there on: not implemented. */
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, last - 1, NULL), eperm);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, last, NULL), allow);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, last + 1, NULL), enosys);
	assert_int_equal(eval(&p, SCMP_ARCH_X86, last + 1, NULL), enosys);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, x32 | (last + 1), NULL), enosys);
	assert_int_equal(eval(&p, SCMP_ARCH_AARCH64, last + 1, NULL), kill);
	/* Without x32 in the profile, its calls are those of a wrong architecture, new or not. */
	s.narchitectures = 2;
	compile(&s, &p);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, x32 | (last + 1), NULL), kill);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, x32, NULL), kill);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, last + 1, NULL), enosys);
	/* The native architecture need not be listed. */
	s.architectures = &archs[1];
	s.narchitectures = 1;
	compile(&s, &p);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, 0, NULL), allow);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, last + 1, NULL), enosys);
	const uint32_t big_endian[] = {SCMP_ARCH_X86_64, SCMP_ARCH_S390X};
	s.architectures = big_endian;
	s.narchitectures = 2;
	/* What this kernel's processes can never have changes nothing: features lists it, profiles
	 * name it. */
	compile(&s, &p);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, 0, NULL), allow);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, 87, NULL), eperm);
	assert_int_equal(eval(&p, SCMP_ARCH_S390X, 3, NULL), kill);
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
	assert_int_equal(eval(&p, SCMP_ARCH_S390X, 0, NULL), enosys);
	assert_int_equal(eval(&p, SCMP_ARCH_S390X, 437, NULL), 0x1234);
	assert_int_equal(eval(&p, SCMP_ARCH_S390X, 438, NULL), enosys);
	assert_int_equal(eval(&p, SCMP_ARCH_AARCH64, 0, NULL), 0x1234);
	assert_int_equal(eval(&p, SCMP_ARCH_AARCH64, 438, NULL), enosys);
	assert_int_equal(eval(&p, SCMP_ARCH_X86_64, 438, NULL), enosys);
	assert_int_equal(eval(&p, SCMP_ARCH_PPC64LE, 438, NULL), 0x1234);
}
#endif

/* The stub is for "return an error": other defaults are policies. */
static void test_defaults_without_stub(void **state)
{
	static const uint32_t defaults[] = {SCMP_ACT_KILL_PROCESS, SCMP_ACT_TRAP, SCMP_ACT_LOG,
		SCMP_ACT_ERRNO(ENOSYS), SCMP_ACT_TRACE(1)};
	const struct spec_seccomp_rule rules[] = {
		{.names = NAMES("read"), .action = SCMP_ACT_ALLOW}};
	struct program p;

	for (size_t i = 0; i < ARRAY_SIZE(defaults); i++) {
		const struct spec_seccomp s = PROFILE(defaults[i], rules);
		compile(&s, &p);
		assert_int_equal(eval(&p, seccomp_arch_native(), 450, NULL), defaults[i]);
	}
}

static void test_refused(void **state)
{
	const struct spec_seccomp_rule sendmsg_rule[] = {
		{.names = NAMES("read", "sendmsg"), .action = SCMP_ACT_NOTIFY}};
	struct spec_seccomp s = PROFILE(SCMP_ACT_ALLOW, sendmsg_rule);

	s.notify = true;
	assert_int_equal(seccomp_compile(&s, -EBADF), -EINVAL);
	assert_non_null(strstr(err_msg(), "syscalls[0]: SCMP_ACT_NOTIFY for sendmsg cannot work"));
	s = (struct spec_seccomp){.default_action = SCMP_ACT_NOTIFY, .notify = true};
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

/*
 * A profile of the size that engines use: nearly every call, on three architectures, some with
 * arguments.
 */
struct big {
	const char *names[512];
	struct spec_seccomp_rule rules[5];
	struct spec_seccomp_arg args[4];
	struct spec_seccomp s;
};

static const struct spec_seccomp *big_profile(struct big *b)
{
	static const uint32_t archs[] = {SCMP_ARCH_X86_64, SCMP_ARCH_X86, SCMP_ARCH_X32};
	size_t n = 0;

	*b = (struct big){.args = {{0, 0, 0, SCMP_CMP_EQ}, {0, 8, 0, SCMP_CMP_EQ},
				  {0, 0x7e020000, 0, SCMP_CMP_MASKED_EQ}, {0, 40, 0, SCMP_CMP_NE}}};
	for (int nr = 0; nr < 440; nr++) {
		char *name = seccomp_syscall_resolve_num_arch(seccomp_arch_native(), nr);
		if (name && !streq(name, "mount") && !streq(name, "reboot"))
			b->names[n++] = name;
		else
			free(name);
	}
	static const char *const personality[] = {"personality"}, *const clone[] = {"clone"},
				 *const socket[] = {"socket"}, *const bpf[] = {"bpf"};
	b->rules[0] = (struct spec_seccomp_rule){{b->names, n}, SCMP_ACT_ALLOW, NULL, 0};
	b->rules[1] = (struct spec_seccomp_rule){{personality, 1}, SCMP_ACT_ALLOW, &b->args[0], 2};
	b->rules[2] = (struct spec_seccomp_rule){{clone, 1}, SCMP_ACT_ALLOW, &b->args[2], 1};
	b->rules[3] = (struct spec_seccomp_rule){{socket, 1}, SCMP_ACT_ALLOW, &b->args[3], 1};
	b->rules[4] = (struct spec_seccomp_rule){{bpf, 1}, SCMP_ACT_ERRNO(EACCES), NULL, 0};
	b->s = (struct spec_seccomp){
		.default_action = EPERM_DEFAULT, .rules = b->rules, .nrules = 5};
	if (seccomp_arch_native() == SCMP_ARCH_X86_64) {
		b->s.architectures = archs;
		b->s.narchitectures = 3;
	}
	return &b->s;
}

static void big_release(struct big *b)
{
	for (size_t i = 0; b->names[i]; i++)
		free((void *)b->names[i]);
}
#define _cleanup_big_ __attribute__((cleanup(big_release), unused))

static char dir_path[] = "/tmp/caisson-seccomp-XXXXXX";

static int cache_dir(void)
{
	int fd = open(dir_path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

/* The only file in the cache; fails where there is none or another one (a left-over, say). */
static void cache_file(char *ret, size_t size)
{
	DIR *d = opendir(dir_path);
	size_t n = 0;

	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.') {
			snprintf(ret, size, "%s/%s", dir_path, e->d_name);
			n++;
		}
	closedir(d);
	assert_int_equal(n, 1);
}

/* A hit hands out the file, a miss a memfd. */
static bool is_hit(int fd)
{
	char link[64], target[256] = "";

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	assert_true(readlink(link, target, sizeof(target) - 1) > 0);
	return str_starts(target, dir_path);
}

static void expect(const struct spec_seccomp *s, bool hit, const struct program *want)
{
	_cleanup_fd_ int dir = cache_dir();
	_cleanup_fd_ int fd = seccomp_compile(s, dir);
	struct program p;

	assert_true(fd >= 0);
	assert_int_equal(is_hit(fd), hit);
	read_program(fd, &p);
	assert_int_equal(p.n, want->n);
	assert_memory_equal(p.f, want->f, p.n * sizeof(p.f[0]));
}

static void write_at(const char *path, off_t at, const void *data, size_t len)
{
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	assert_int_equal(pwrite(fd, data, len, at), len);
}

static void test_cache(void **state)
{
	_cleanup_big_ struct big big;
	const struct spec_seccomp *s = big_profile(&big);
	struct program want;
	char path[512];
	struct stat st;

	compile(s, &want);
	assert_int_equal(native(&want, "read", 0), SECCOMP_RET_ALLOW);
	assert_int_equal(native(&want, "mount", 0), SECCOMP_RET_ERRNO | EPERM);
	expect(s, false, &want);
	expect(s, true, &want);
	cache_file(path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/* Flags are not part of the program. */
	big.s.flags = SECCOMP_FILTER_FLAG_LOG;
	expect(s, true, &want);

	/* Cut at every length, with the head, the key and the program each in reach. */
	for (off_t len = 0; len < st.st_size; len += len < 64 ? 1 : 997) {
		assert_int_equal(truncate(path, len), 0);
		expect(s, false, &want);
		expect(s, true, &want);
	}
	assert_int_equal(truncate(path, st.st_size + 8), 0);
	expect(s, false, &want);
	for (off_t at = 0; at < st.st_size; at += at < 32 ? 1 : 499) {
		char byte;
		_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x40;
		write_at(path, at, &byte, 1);
		expect(s, false, &want);
		expect(s, true, &want);
	}
	/* Writable by others; a symbolic link; a FIFO. */
	assert_int_equal(chmod(path, 0620), 0);
	expect(s, false, &want);
	char moved[600];
	snprintf(moved, sizeof(moved), "%s-moved", dir_path);
	assert_int_equal(rename(path, moved), 0);
	assert_int_equal(symlink(moved, path), 0);
	expect(s, false, &want);
	expect(s, true, &want);
	assert_int_equal(unlink(moved), 0);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	expect(s, false, &want);
	if (geteuid() == 0) {
		assert_int_equal(chown(path, 1234, 0), 0);
		expect(s, false, &want);
	}
	expect(s, true, &want);
}

/*
 * A file under the right name that is sound, but of another profile: what a collision of the hash
 * would be.
 */
static void test_cache_collision(void **state)
{
	_cleanup_big_ struct big big;
	const struct spec_seccomp *s = big_profile(&big);
	struct program want, other_want;
	char path[512], other_path[512];

	compile(s, &want);
	expect(s, false, &want);
	cache_file(path, sizeof(path));
	snprintf(other_path, sizeof(other_path), "%s-other", dir_path);
	assert_int_equal(rename(path, other_path), 0);
	/* The same length to the byte: only an argument's value differs. */
	big.args[3].value = 41;
	compile(s, &other_want);
	assert_int_equal(want.n, other_want.n);
	expect(s, false, &other_want);
	cache_file(path, sizeof(path));
	assert_int_equal(rename(other_path, path), 0);
	expect(s, false, &other_want);
	expect(s, true, &other_want);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void test_cache_is_fast(void **state)
{
	_cleanup_big_ struct big big;
	const struct spec_seccomp *s = big_profile(&big);
	_cleanup_fd_ int dir = cache_dir();
	double best[2] = {1e9, 1e9};

	for (int i = 0; i < 20; i++) {
		double start = now();
		int fd = seccomp_compile(s, i % 2 ? dir : -EBADF);
		double took = now() - start;
		assert_true(fd >= 0);
		close(fd);
		if (i > 1 && took < best[i % 2])
			best[i % 2] = took;
	}
	print_message("%zu names: compiled in %.0f us, from the cache in %.0f us\n",
		big.rules[0].names.n, best[0], best[1]);
	assert_true(best[1] * 5 < best[0]);
}

/* Loads the profile in this process, as the walk would. */
static int load(const struct spec_seccomp *s, struct step_ctx *c, struct step step)
{
	int fd = seccomp_compile(s, -EBADF);

	CHECK(fd >= 0);
	c->slots = &fd;
	step.slot = 0;
	step.seccomp.seccomp = s;
	return step_seccomp(c, &step);
}

static void effects(void)
{
	const struct spec_seccomp_rule rules[] = {
		{.names = NAMES("mkdir", "mkdirat"), .action = SCMP_ACT_ERRNO(EDOM)},
		{.names = NAMES("getpgid"), .action = SCMP_ACT_KILL_PROCESS},
	};
	struct spec_seccomp s = PROFILE(SCMP_ACT_ALLOW, rules);
	struct step_ctx c = {0};

	s.flags = SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
		  SECCOMP_FILTER_FLAG_TSYNC;
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(load(&s, &c, (struct step){0}) == 0);
	CHECK(mkdir("/tmp/caisson-never", 0700) < 0 && errno == EDOM);
	CHECK(getppid() > 0);
	getpgid(0);
	_exit(3);
}

static void test_effects(void **state)
{
	int status = child_status(effects);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void load_errors(void)
{
	struct spec_seccomp s = {.default_action = SCMP_ACT_ALLOW};
	struct step_ctx c = {0};
	struct cap_sets none = {0};
	struct step no_slot = {.slot = -1, .seccomp = {.seccomp = &s}};

	CHECK(step_seccomp(&c, &no_slot) == -EINVAL);
	CHECK_MSG("was not handed over");
	CHECK(cap_sets_write(&none) == 0);
	CHECK(load(&s, &c, (struct step){0}) == -EACCES);
	CHECK_MSG("needs CAP_SYS_ADMIN in the container's user namespace, or "
		  "process.noNewPrivileges");
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	int fd = open("/dev/null", O_RDONLY);
	c.slots = &fd;
	struct step empty = {.slot = 0, .seccomp = {.seccomp = &s}};
	CHECK(step_seccomp(&c, &empty) == -EINVAL);
	CHECK_MSG("is 0 bytes long");
	CHECK(load(&s, &c, (struct step){0}) == 0);
}

static void test_load_errors(void **state)
{
	needs_root();
	in_child(load_errors);
}

static void drops_what_was_kept(void)
{
	const uint64_t chown_bit = 1 << CAP_CHOWN, admin_bit = 1 << CAP_SYS_ADMIN;
	const struct spec_capabilities caps = {
		.bounding = chown_bit, .effective = chown_bit, .permitted = chown_bit};
	struct spec_seccomp s = {.default_action = SCMP_ACT_ALLOW};
	struct step step = {.caps = {.caps = &caps, .keep_sys_admin = true}};
	struct step_ctx c = {0};
	struct cap_sets sets;

	CHECK(step_capabilities(&c, &step) == 0);
	CHECK(cap_sets_read(&sets) == 0 && sets.permitted == (chown_bit | admin_bit));
	CHECK(load(&s, &c, (struct step){.seccomp = {.final_caps = &caps, .drop_caps = true}}) ==
		0);
	CHECK(cap_sets_read(&sets) == 0);
	CHECK(sets.permitted == chown_bit && sets.effective == chown_bit);
	/* NULL: none. */
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(load(&s, &c, (struct step){.seccomp = {.drop_caps = true}}) == 0);
	CHECK(cap_sets_read(&sets) == 0 && sets.permitted == 0 && sets.effective == 0);
}

/* A filter that denies capset(2): loading works, and execve(2) does the dropping. */
static void drop_is_denied(void)
{
	const uint64_t chown_bit = 1 << CAP_CHOWN;
	const struct spec_capabilities caps = {
		.bounding = chown_bit, .effective = chown_bit, .permitted = chown_bit};
	const struct spec_seccomp_rule rules[] = {
		{.names = NAMES("capset"), .action = SCMP_ACT_ERRNO(EPERM)}};
	struct spec_seccomp s = PROFILE(SCMP_ACT_ALLOW, rules);
	struct step step = {.caps = {.caps = &caps, .keep_sys_admin = true}};
	struct step_ctx c = {0};

	CHECK(step_capabilities(&c, &step) == 0);
	CHECK(load(&s, &c, (struct step){.seccomp = {.final_caps = &caps, .drop_caps = true}}) ==
		0);
	execl("/bin/sh", "sh", "-c",
		"while read k v; do case $k in CapPrm:|CapEff:) [ $v = 0000000000000001 ] || exit "
		"4;; "
		"esac; done </proc/self/status; exit 0",
		NULL);
	_exit(5);
}

static void test_drop(void **state)
{
	needs_root();
	in_child(drops_what_was_kept);
	in_child(drop_is_denied);
}

static int send_over(void *data, const char *what, int fd)
{
	return fd_send(*(int *)data, what, strlen(what), fd);
}

static void ask_the_agent(int sock)
{
	const struct spec_seccomp_rule rules[] = {
		{.names = NAMES("getppid"), .action = SCMP_ACT_NOTIFY}};
	struct spec_seccomp s = PROFILE(SCMP_ACT_ALLOW, rules);
	struct step_ctx c = {.peer = {.data = &sock, .send_fd = send_over}};

	s.notify = true;
	/* TSYNC and a listener exclude each other: the flag must not get in the way. */
	s.flags = SECCOMP_FILTER_FLAG_TSYNC;
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(load(&s, &c, (struct step){0}) == 0);
	CHECK(syscall(SYS_getppid) == 4242);
	/* One listener is all the kernel allows. */
	CHECK(load(&s, &c, (struct step){0}) == -EBUSY);
	CHECK_MSG("under a filter with a listener already");
}

static void test_notify(void **state)
{
	_cleanup_fd_ int listener = -EBADF;
	struct seccomp_notif ask = {0};
	char what[16] = "";
	int socks[2], status;

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks), 0);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(30);
		ask_the_agent(socks[1]);
		_exit(0);
	}
	close(socks[1]);
	assert_int_equal(fd_recv(socks[0], what, sizeof(what) - 1, &listener), 7);
	assert_string_equal(what, "seccomp");
	assert_true(listener >= 0);
	assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &ask), 0);
	assert_int_equal(ask.data.nr, SYS_getppid);
	struct seccomp_notif_resp answer = {.id = ask.id, .val = 4242};
	assert_int_equal(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(socks[0]);
}

static int make_dir(void **state)
{
	return mkdtemp(dir_path) ? 0 : -1;
}

static int empty_dir(void **state)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s/*", dir_path);
	return system(command);
}

static int remove_dir(void **state)
{
	return rmdir(dir_path);
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
		cmocka_unit_test_teardown(test_cache, empty_dir),
		cmocka_unit_test_teardown(test_cache_collision, empty_dir),
		cmocka_unit_test_teardown(test_cache_is_fast, empty_dir),
		cmocka_unit_test(test_effects),
		cmocka_unit_test(test_load_errors),
		cmocka_unit_test(test_drop),
		cmocka_unit_test(test_notify),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
