/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the cache of compiled seccomp filters: hits, misses, damaged files, and the time that it
 * saves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "base/fd.h"
#include "filter/filter.h"
#include "step/step.h"
#include "unit/rig/seccomp.h"

/*
 * A profile as large as those of Docker or podman: it names nearly every system call, on three
 * architectures, some with arguments.
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

/*
 * Finds the only file in the cache's directory. Fails if there is no file, or more than one,
 * because then caisson has left something behind.
 */
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

/*
 * Returns whether the compiler has found the filter in the cache: then fd is the cache's file,
 * otherwise a memfd.
 */
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

	compile_profile(s, &want);
	assert_int_equal(decision(&want, "read", 0), SECCOMP_RET_ALLOW);
	assert_int_equal(decision(&want, "mount", 0), SECCOMP_RET_ERRNO | EPERM);
	expect(s, false, &want);
	expect(s, true, &want);
	cache_file(path, sizeof(path));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	/*
	 * The compiler must find this profile's filter in the cache, because the profile differs
	 * only in its flags, which are no part of the compiled program.
	 */
	big.s.flags = SECCOMP_FILTER_FLAG_LOG;
	expect(s, true, &want);

	/*
	 * Cuts the cache's file at different lengths, so that the header, the key and the program
	 * are each cut at least once. The compiler must not use a file that was cut.
	 */
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
	/*
	 * The compiler must not use a file of the cache to which other users may write, nor a
	 * symbolic link or a FIFO in its place.
	 */
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
 * Checks that the compiler does not use an intact file of the cache that has the right name but the
 * filter of another profile, as after a collision of the hash.
 */
static void test_cache_collision(void **state)
{
	_cleanup_big_ struct big big;
	const struct spec_seccomp *s = big_profile(&big);
	struct program want, other_want;
	char path[512], other_path[512];

	compile_profile(s, &want);
	expect(s, false, &want);
	cache_file(path, sizeof(path));
	snprintf(other_path, sizeof(other_path), "%s-other", dir_path);
	assert_int_equal(rename(path, other_path), 0);
	/*
	 * The two profiles differ only in the value of an argument, so their files have the same
	 * length.
	 */
	big.args[3].value = 41;
	compile_profile(s, &other_want);
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
		cmocka_unit_test_teardown(test_cache, empty_dir),
		cmocka_unit_test_teardown(test_cache_collision, empty_dir),
		cmocka_unit_test_teardown(test_cache_is_fast, empty_dir),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
