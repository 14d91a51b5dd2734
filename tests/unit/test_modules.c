/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the order in which kernel modules are loaded. The texts of modules.dep are made up, and
 * some are malformed; a distribution's own modules.dep is compared with the answer of modprobe(8).
 */
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "images/guest/modules.h"

static struct strbuf text(const char *s)
{
	return (struct strbuf){.s = (char *)s, .len = strlen(s)};
}

static int parse(struct arena *a, const char *dep, const char *builtin, const struct modules **ret)
{
	struct strbuf d = text(dep), b = text(builtin);

	err_clear();
	return modules_parse(a, &d, &b, "/lib/modules/6.1", ret);
}

/*
 * Resolves up to three modules. *ret becomes the paths of the modules to load, joined by blanks, or
 * the error's message.
 */
static int resolve(
	struct arena *a, const struct modules *m, const char *const wanted[3], struct strbuf *ret)
{
	struct module_list list;
	size_t n = 0;
	int r;

	strbuf_reset(ret);
	while (n < 3 && wanted[n])
		n++;
	err_clear();
	r = modules_resolve(a, m, wanted, n, &list);
	for (size_t i = 0; r == 0 && i < list.n; i++)
		r = strbuf_addf(ret, "%s%s", i ? " " : "", list.v[i]->path);
	return r;
}

static const char sample[] = "kernel/a/one-two.ko:\n"
			     "kernel/b/top.ko.xz: kernel/b/mid.ko.zst kernel/a/one-two.ko\n"
			     "kernel/b/mid.ko.zst: kernel/a/one-two.ko\n"
			     "kernel/c/lone.ko.gz:\n"
			     "# a comment, and an empty line\n"
			     "\n"
			     "extra/direct.ko: kernel/b/top.ko.xz";
static const char sample_builtin[] = "kernel/fs/ext4/ext4.ko\nkernel/lib/crc-x.ko\n";

static void test_order(void **state)
{
	static const struct {
		const char *wanted[3];
		const char *expected;
	} cases[] = {
		{{NULL}, ""},
		{{"one-two"}, "kernel/a/one-two.ko"},
		{{"one_two"}, "kernel/a/one-two.ko"},
		{{"top"}, "kernel/a/one-two.ko kernel/b/mid.ko.zst kernel/b/top.ko.xz"},
		{{"lone", "mid", "top"},
			"kernel/c/lone.ko.gz kernel/a/one-two.ko kernel/b/mid.ko.zst "
			"kernel/b/top.ko.xz"},
		{{"top", "top", "one_two"},
			"kernel/a/one-two.ko kernel/b/mid.ko.zst kernel/b/top.ko.xz"},
		/*
		 * The line of the module "direct" in modules.dep names only its direct dependency.
		 * The result must also have the modules on which that dependency depends.
		 */
		{{"direct"}, "kernel/a/one-two.ko kernel/b/mid.ko.zst kernel/b/top.ko.xz "
			     "extra/direct.ko"},
		{{"ext4", "crc_x", "crc-x"}, ""},
		{{"ext4", "lone"}, "kernel/c/lone.ko.gz"},
	};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf got = {0};
	const struct modules *m;

	assert_int_equal(parse(&a, sample, sample_builtin, &m), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(resolve(&a, m, cases[i].wanted, &got), 0);
		assert_string_equal(strbuf_str(&got), cases[i].expected);
	}
}

static void test_find(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	const struct modules *m;
	char name[80];

	assert_int_equal(parse(&a, sample, sample_builtin, &m), 0);
	assert_int_equal(modules_find(m, "one-two")->packing, MODULE_PLAIN);
	assert_int_equal(modules_find(m, "top")->packing, MODULE_XZ);
	assert_int_equal(modules_find(m, "mid")->packing, MODULE_ZSTD);
	assert_int_equal(modules_find(m, "lone")->packing, MODULE_GZIP);
	assert_string_equal(modules_find(m, "one-two")->name, "one_two");
	assert_false(modules_find(m, "one-two")->builtin);
	assert_true(modules_find(m, "ext4")->builtin);
	assert_null(modules_find(m, ""));
	assert_null(modules_find(m, "one"));
	assert_null(modules_find(m, "one-two.ko"));
	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	assert_null(modules_find(m, name));

	/* A module file must replace a built-in module of the same name, as with modprobe(8). */
	assert_int_equal(parse(&a, "updates/ext4.ko:\n", sample_builtin, &m), 0);
	assert_string_equal(modules_find(m, "ext4")->path, "updates/ext4.ko");
	assert_false(modules_find(m, "ext4")->builtin);
	assert_int_equal(parse(&a, "", "", &m), 0);
	assert_null(modules_find(m, "ext4"));
}

static void test_resolve_errors(void **state)
{
	static const struct {
		const char *dep, *wanted;
		int expected;
		const char *message;
	} cases[] = {
		{"a.ko:\n", "b", -ENOENT, "kernel module b: neither in modules.dep nor in"},
		{"a.ko: a.ko\n", "a", -ELOOP, "a depends on itself"},
		{"a.ko: b.ko\nb.ko: c.ko\nc.ko: a.ko\n", "a", -ELOOP, "kernel module a: "},
		{"a.ko: b.ko\n", "a", -EINVAL, "a depends on \"b.ko\", which has no line"},
		{"a.ko: b.txt\n", "a", -EINVAL, "a depends on \"b.txt\", which has no line"},
		{"a.ko: ../b.ko\nb.ko:\n", "a", -EINVAL, "a depends on \"../b.ko\""},
		{"a.ko: y/b.ko\nx/b.ko:\n", "a", -EINVAL, "a depends on \"y/b.ko\""},
	};
	_cleanup_strbuf_ struct strbuf got = {0};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_arena_ struct arena a = {0};
		const struct modules *m;

		assert_int_equal(parse(&a, cases[i].dep, "", &m), 0);
		assert_int_equal(resolve(&a, m, (const char *const[3]){cases[i].wanted}, &got),
			cases[i].expected);
		assert_non_null(strstr(err_msg(), cases[i].message));
		assert_non_null(strstr(err_msg(), "/lib/modules/6.1"));
	}
}

static void test_hostile_texts(void **state)
{
	static const struct {
		const char *dep, *builtin, *message;
	} cases[] = {
		{"a.ko\n", "", "modules.dep: line 1: expected \"PATH: PATH ...\": \"a.ko\""},
		{"\n\na.ko:\nb\n", "", "line 4"},
		{":\n", "", "line 1: expected a path beneath the directory"},
		{"a.ko b.ko:\n", "", "line 1: a blank in a path"},
		{"/etc/a.ko:\n", "", "expected a path beneath the directory: \"/etc/a.ko\""},
		{"../a.ko:\n", "", "expected a path beneath the directory"},
		{"x/../a.ko:\n", "", "expected a path beneath the directory"},
		{"x/./a.ko:\n", "", "expected a path beneath the directory"},
		{"x//a.ko:\n", "", "expected a path beneath the directory"},
		{"x/a.ko/:\n", "", "expected a path beneath the directory"},
		{"x/.ko:\n", "", "expected a name that ends in .ko"},
		{"x/a.o:\n", "", "expected a name that ends in .ko"},
		{"x/a.ko.lz4:\n", "", "expected a name that ends in .ko"},
		{"x/0123456789012345678901234567890123456789012345678901234x.ko:\n", "",
			"a module's name is too long"},
		{"x/a-b.ko:\nx/a_b.ko:\n", "", "a_b is in it twice"},
		{"", "a.ko:\n", "modules.builtin: line 1: unexpected ':'"},
		{"", "ok.ko\n\ta.ko\n", "modules.builtin: line 2: a blank in a path"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_arena_ struct arena a = {0};
		const struct modules *m;

		assert_int_equal(parse(&a, cases[i].dep, cases[i].builtin, &m), -EINVAL);
		assert_non_null(strstr(err_msg(), cases[i].message));
	}
	_cleanup_arena_ struct arena a = {0};
	struct strbuf nul = {.s = (char *)"a.ko:\0\n", .len = 7}, none = {0};
	const struct modules *m;
	assert_int_equal(modules_parse(&a, &nul, &none, "dir", &m), -EINVAL);
	assert_non_null(strstr(err_msg(), "dir/modules.dep: a NUL character"));
	/* The longest module name that the kernel accepts must be accepted. */
	assert_int_equal(
		parse(&a, "0123456789012345678901234567890123456789012345678901234.ko:\n", "", &m),
		0);
}

/*
 * Writes a modules.dep in which each of n modules needs the next one. Unlike depmod, the function
 * names only the direct dependencies.
 */
static void chain(struct strbuf *ret, int n)
{
	strbuf_reset(ret);
	for (int i = 0; i < n - 1; i++)
		assert_int_equal(strbuf_addf(ret, "m%d.ko: m%d.ko\n", i, i + 1), 0);
	assert_int_equal(strbuf_addf(ret, "m%d.ko:\n", n - 1), 0);
}

static void test_limits(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf dep = {0}, got = {0};
	const char *const wanted[3] = {"m0"};
	struct strbuf none = {0};
	const struct modules *m;

	chain(&dep, MODULES_MAX_DEPTH);
	assert_int_equal(modules_parse(&a, &dep, &none, "dir", &m), 0);
	assert_int_equal(resolve(&a, m, wanted, &got), 0);
	chain(&dep, MODULES_MAX_DEPTH + 1);
	assert_int_equal(modules_parse(&a, &dep, &none, "dir", &m), 0);
	assert_int_equal(resolve(&a, m, wanted, &got), -ELOOP);
	assert_non_null(strstr(err_msg(), "more than 64 deep"));

	strbuf_reset(&dep);
	for (int i = 0; i < MODULES_MAX; i++)
		assert_int_equal(strbuf_addf(&dep, "m%d.ko:\n", i), 0);
	assert_int_equal(modules_parse(&a, &dep, &none, "dir", &m), 0);
	assert_int_equal(strbuf_addf(&dep, "last.ko:\n"), 0);
	assert_int_equal(modules_parse(&a, &dep, &none, "dir", &m), -E2BIG);

	struct strbuf large = {.s = malloc(MODULES_MAX_FILE + 1), .len = MODULES_MAX_FILE + 1};
	assert_non_null(large.s);
	memset(large.s, '\n', large.len);
	assert_int_equal(modules_parse(&a, &large, &none, "dir", &m), -EFBIG);
	large.len--;
	assert_int_equal(modules_parse(&a, &large, &none, "dir", &m), 0);
	free(large.s);
}

static void test_load(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	char dir[] = "/tmp/caisson-modules-XXXXXX";
	_cleanup_fd_ int fd = -EBADF;
	const struct modules *m;

	assert_non_null(mkdtemp(dir));
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(modules_load(&a, fd, dir, &m), -ENOENT);
	assert_non_null(strstr(
		err_msg(), "modules.dep: the file is missing: create it with \"depmod VERSION\""));
	assert_int_equal(fd_replace_file(fd, "modules.dep", sample, strlen(sample), 0600), 0);
	assert_int_equal(modules_load(&a, fd, dir, &m), 0);
	assert_string_equal(err_msg(), "");
	assert_null(modules_find(m, "ext4"));
	assert_int_equal(fd_replace_file(fd, "modules.builtin", sample_builtin,
				 strlen(sample_builtin), 0600),
		0);
	assert_int_equal(modules_load(&a, fd, dir, &m), 0);
	assert_true(modules_find(m, "ext4")->builtin);
	assert_int_equal(unlinkat(fd, "modules.dep", 0), 0);
	assert_int_equal(unlinkat(fd, "modules.builtin", 0), 0);
	assert_int_equal(rmdir(dir), 0);
}

/*
 * Lists what modprobe would load, in its order: one path a line, relative to the modules'
 * directory.
 */
static void ask_modprobe(const char *dir, const char *name, struct strbuf *ret)
{
	char base[] = "/tmp/caisson-modprobe-XXXXXX", command[1024];
	const char *version = strrchr(dir, '/') + 1;
	FILE *out;

	/*
	 * modprobe must use no soft dependencies. The option -C /dev/null makes it ignore those in
	 * /etc, and the copy of the modules' directory leaves out the kernel's own.
	 */
	assert_non_null(mkdtemp(base));
	snprintf(command, sizeof(command),
		"set -e; d=%s/lib/modules/%s; mkdir -p \"$d\"; cp %s/modules.dep* "
		"%s/modules.builtin* \"$d\"; "
		"for f in %s/*/; do ln -s \"$f\" \"$d\"; done; "
		"modprobe -d %s -C /dev/null -S %s --show-depends %s | "
		"sed -n \"s:^insmod .*/lib/modules/%s/\\([^ ]*\\).*:\\1:p\"; rm -rf %s",
		base, version, dir, dir, dir, base, version, name, version, base);
	out = popen(command, "r");
	assert_non_null(out);
	assert_int_equal(fd_read_all(fileno(out), ret, 1 << 20, "modprobe"), 0);
	assert_int_equal(pclose(out), 0);
}

static void compare_with_modprobe(struct arena *a, const struct modules *m, const char *dir)
{
	static const char *const names[] = {"virtiofs", "overlay", "9pnet_virtio", "nf_tables",
		"vmw_vsock_virtio_transport", "virtio_net", "ext4", "btrfs", "kvm-amd"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_strbuf_ struct strbuf expected = {0}, got = {0};
		struct module_list list;

		if (!modules_find(m, names[i]))
			continue;
		ask_modprobe(dir, names[i], &expected);
		assert_int_equal(modules_resolve(a, m, &names[i], 1, &list), 0);
		for (size_t j = 0; j < list.n; j++)
			assert_int_equal(strbuf_addf(&got, "%s\n", list.v[j]->path), 0);
		assert_string_equal(strbuf_str(&got), strbuf_str(&expected));
	}
}

/*
 * Checks that every module of a distribution's kernel can be resolved, and that the modules' files
 * exist.
 */
static void check_real(const char *dir)
{
	_cleanup_fd_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_strbuf_ struct strbuf dep = {0};
	_cleanup_arena_ struct arena a = {0};
	const struct modules *m;
	size_t seen = 0;

	assert_true(fd >= 0);
	assert_int_equal(modules_load(&a, fd, dir, &m), 0);
	assert_int_equal(fd_read_file(fd, "modules.dep", &dep, MODULES_MAX_FILE), 0);
	for (char *line = strtok(dep.s, "\n"); line; line = strtok(NULL, "\n")) {
		_cleanup_arena_ struct arena one = {0};
		char *name, *end;
		struct module_list list;

		*strchr(line, ':') = '\0';
		name = strrchr(line, '/') + 1;
		end = strstr(name, ".ko");
		*end = '\0';
		const char *wanted = name;
		assert_int_equal(modules_resolve(&one, m, &wanted, 1, &list), 0);
		*end = '.';
		assert_string_equal(list.v[list.n - 1]->path, line);
		assert_int_equal(faccessat(fd, line, R_OK, 0), 0);
		seen++;
	}
	assert_true(seen > 100);
	print_message("%s: %zu modules\n", dir, seen);
	if (system("command -v modprobe >/dev/null") == 0)
		compare_with_modprobe(&a, m, dir);
	else
		print_message("not compared with modprobe: kmod is not installed\n");
}

static void test_real(void **state)
{
	const char *cache = getenv("CAISSON_CACHE");
	char pattern[512];
	glob_t found = {0};

	snprintf(pattern, sizeof(pattern), "%s/kernel-*/modules/*/modules.dep",
		cache ? cache : "/var/cache/caisson-tests");
	glob(pattern, 0, NULL, &found);
	glob("/lib/modules/*/modules.dep", GLOB_APPEND, NULL, &found);
	if (found.gl_pathc == 0) {
		print_message(
			"skipped: no %s (tests/host/run fetches it), no /lib/modules/*\n", pattern);
		globfree(&found);
		skip();
	}
	for (size_t i = 0; i < found.gl_pathc; i++) {
		*strrchr(found.gl_pathv[i], '/') = '\0';
		check_real(found.gl_pathv[i]);
	}
	globfree(&found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_find),
		cmocka_unit_test(test_resolve_errors),
		cmocka_unit_test(test_hostile_texts),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_load),
		cmocka_unit_test(test_real),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
