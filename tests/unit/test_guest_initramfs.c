/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the initramfs that caisson makes for the guest's kernel, with fake kernels and modules: its
 * contents, and the cache that keeps it.
 */
#include <fcntl.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <string.h>
#include <sys/wait.h>

#include "base/fd.h"
#include "base/str.h"
#include "unit/rig/guest_kernel.h"

static const struct guest_kernel_request request = {
	.init = "caisson-guest", .cache = "cache", .root = "root"};

/*
 * Opens the initramfs that `q` asks for, reads it into *ret, and stores the inode number of its
 * file in *ret_ino, which may be NULL.
 */
static void open_with(const struct guest_kernel_request *q, struct strbuf *ret, ino_t *ret_ino)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_guest_kernel_ struct guest_kernel k = GUEST_KERNEL_INIT;
	struct stat st;

	if (guest_kernel_open(&a, q, &k) != 0)
		fail_msg("%s", err_msg());
	assert_int_equal(fstat(k.initramfs, &st), 0);
	strbuf_reset(ret);
	assert_int_equal(fd_read_all(k.initramfs, ret, 1 << 30, "initramfs"), 0);
	assert_int_equal(ret->len, st.st_size);
	/* The last page must have room for the firmware's tables. */
	assert_int_equal(ret->len % 4096, 4);
	if (ret_ino)
		*ret_ino = st.st_ino;
}

static void open_fails(const struct guest_kernel_request *q, int code, const char *text)
{
	_cleanup_arena_ struct arena a = {0};
	struct guest_kernel k;

	err_clear();
	int r = guest_kernel_open(&a, q, &k);
	if (r != -code || !strstr(err_msg(), text))
		fail_msg("got %d \"%s\", expected %d \"%s\"", r, err_msg(), -code, text);
}

static size_t count(const char *pattern)
{
	glob_t g = {0};

	glob(pattern, 0, NULL, &g);
	size_t n = g.gl_pathc;
	globfree(&g);
	return n;
}

static unsigned field(const char *header, int i)
{
	char text[9] = "";

	memcpy(text, header + 6 + 8 * i, 8);
	return (unsigned)strtoul(text, NULL, 16);
}

/*
 * Lists the entries of concatenated archives: "NAME MODE;", and for a regular file "NAME
 * MODE=CONTENT;".
 */
static void list_archive(const struct strbuf *archive, struct strbuf *ret)
{
	size_t at = 0;

	strbuf_reset(ret);
	while (at + 110 <= archive->len) {
		const char *h = archive->s + at;

		if (*h == '\0') { /* skips the padding between two archives */
			at++;
			continue;
		}
		assert_memory_equal(h, "070701", 6);
		unsigned mode = field(h, 1), size = field(h, 6), name = field(h, 11);
		size_t data = (at + 110 + name + 3) & ~(size_t)3;
		assert_true(data + size <= archive->len);
		if (!streq(h + 110, "TRAILER!!!")) {
			/* Each entry of the archive must have root as its owner and group. */
			assert_int_equal(field(h, 2) + field(h, 3), 0);
			assert_int_equal(strbuf_addf(ret, "%s %o", h + 110, mode), 0);
			if (S_ISREG(mode))
				assert_int_equal(
					strbuf_addf(ret, "=%.*s", (int)size, archive->s + data), 0);
			assert_int_equal(strbuf_addf(ret, ";"), 0);
		}
		at = (data + size + 3) & ~(size_t)3;
	}
}

#define HEAD "dev 40755;proc 40755;sys 40755;run 40755;tmp 40755;dev/console 20600;"

#define BODY(s) \
	"modules 40755;modules/virtio.ko" s " 100644=virtio;modules/virtio_ring.ko" s \
	" 100644=virtio_ring;"

static void test_contents(void **state)
{
	_cleanup_strbuf_ struct strbuf got = {0}, list = {0};
	struct guest_kernel_request q = request;

	put_vmlinuz("root/boot/vmlinuz-6", "6.1");
	put_modules("root/lib/modules", "6.1", DEP, "");
	open_with(&q, &got, NULL);
	list_archive(&got, &list);
	assert_true(str_starts(list.s, HEAD BODY("")));
	assert_non_null(
		strstr(list.s, ";modules.list 100644=/modules/virtio.ko\n/modules/virtio_ring.ko\n"
			       "/modules/virtio_mmio.ko\n/modules/fuse.ko\n/modules/virtiofs.ko\n"
			       "/modules/vsock.ko\n/modules/vmw_vsock_virtio_transport.ko\n"));
	assert_non_null(strstr(list.s, "/modules/ext4.ko\n;init 100755=#!init;"));
	assert_null(strstr(list.s, "unrelated"));
	assert_null(strstr(list.s, "ptp_vmclock"));

	/* A driver that is not required must be packed if the kernel has it as a module. */
	put_text("root/lib/modules/6.1/k/ptp_vmclock.ko", "ptp_vmclock");
	put_text("root/lib/modules/6.1/modules.dep", DEP "k/ptp_vmclock.ko:\n");
	open_with(&q, &got, NULL);
	list_archive(&got, &list);
	assert_non_null(strstr(list.s, "/modules/ext4.ko\n/modules/ptp_vmclock.ko\n;init "));

	/*
	 * A kernel that was built for guests needs no modules, so its initramfs must contain only
	 * init.
	 */
	put_vmlinux("root/usr/lib/caisson/kernel/vmlinux", "6.1-caisson", 1024, 512);
	put_text("root/usr/lib/caisson/kernel/config", CONFIG "CONFIG_EXT4_FS=y\n");
	open_with(&q, &got, NULL);
	list_archive(&got, &list);
	assert_string_equal(list.s, HEAD "init 100755=#!init;");

	/*
	 * The archive must begin with the user's own initrd, and caisson's archive must follow
	 * behind it.
	 */
	q.initrd = "theirs";
	put_file("theirs", got.s, got.len);
	put_text("caisson-guest", "#!second");
	open_with(&q, &got, NULL);
	list_archive(&got, &list);
	assert_string_equal(list.s, HEAD "init 100755=#!init;" HEAD "init 100755=#!second;");
	put_text("theirs", "no archive");
	open_fails(&q, EINVAL, "vm.kernel.initrd: theirs: not an initramfs");
	q.initrd = "absent";
	open_fails(&q, ENOENT, "vm.kernel.initrd: absent: does not exist");
	q = request;
	q.init = "absent";
	open_fails(&q, ENOENT, "the guest's init absent: does not exist");
	assert_int_equal(count("cache/*.tmp"), 0);
}

static void test_compressed_modules(void **state)
{
	_cleanup_strbuf_ struct strbuf got = {0}, list = {0};
	_cleanup_strbuf_ struct strbuf dep = {0};

	/* This modules.dep is the text DEP with the suffix ".gz" behind the name of each module. */
	for (const char *p = DEP, *next; *p; p = next) {
		next = strstr(p, ".ko");
		next = next ? next + 3 : p + strlen(p);
		assert_int_equal(
			strbuf_addf(&dep, "%.*s%s", (int)(next - p), p, *next ? ".gz" : ""), 0);
	}
	put_vmlinuz("k/vmlinuz", "6.6");
	put_modules("k/modules", "6.6", dep.s, "");
	assert_int_equal(system("gzip k/modules/6.6/k/*.ko"), 0);
	struct guest_kernel_request q = request;
	q.kernel = "k/vmlinuz";
	open_with(&q, &got, NULL);
	list_archive(&got, &list);
	assert_true(str_starts(list.s, HEAD BODY("")));
	assert_non_null(strstr(list.s, "modules.list 100644=/modules/virtio.ko\n"));
	/*
	 * If the guest's kernel can unpack compressed modules itself, the initramfs must have the
	 * compressed files.
	 */
	put_text("k/config-6.6", "CONFIG_MODULE_DECOMPRESS=y\n");
	open_with(&q, &got, NULL);
	assert_non_null(memmem(got.s, got.len, "modules/virtio.ko.gz\0", 21));
	assert_non_null(memmem(got.s, got.len, "\n/modules/ext4.ko.gz\n", 21));
	assert_non_null(memmem(got.s, got.len, "\x1f\x8b\x08", 3));
	put_text("k/config-6.6", "# CONFIG_MODULE_DECOMPRESS is not set\n");
	put_text("k/modules/6.6/k/ext4.ko.gz", "\x1f\x8b damaged");
	open_fails(&q, EIO, "k/ext4.ko.gz: gzip could not unpack it");
	assert_int_equal(unlink("k/modules/6.6/k/ext4.ko.gz"), 0);
	open_fails(&q, ENOENT, "kernel module k/modules/6.6/k/ext4.ko.gz (named by modules.dep)");
	assert_int_equal(count(CACHED), 2);
}

/*
 * Replaces the program init of the initramfs by a program of the same length, so that only the time
 * stamps of init's file show the change. The function first waits longer than a tick of the kernel,
 * because the file's time stamps are no more precise.
 */
static void change_init(const char *text)
{
	usleep(20000);
	put_text("caisson-guest", text);
}

static void make_plain(void)
{
	put_vmlinuz("root/boot/vmlinuz-6", "6.1");
	put_modules("root/lib/modules", "6.1", DEP, "");
}

static void test_cache(void **state)
{
	_cleanup_strbuf_ struct strbuf one = {0}, two = {0};
	ino_t first, again;
	struct stat st;
	glob_t g = {0};

	make_plain();
	open_with(&request, &one, &first);
	assert_int_equal(stat("cache", &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	open_with(&request, &two, &again);
	assert_int_equal(first, again);
	assert_int_equal(glob(CACHED, 0, NULL, &g), 0);
	assert_int_equal(g.gl_pathc, 1);

	/*
	 * Checks that a file of the cache to which other users may write is replaced and not used.
	 */
	assert_int_equal(chmod(g.gl_pathv[0], 0620), 0);
	open_with(&request, &two, &again);
	assert_int_not_equal(first, again);
	assert_int_equal(stat(g.gl_pathv[0], &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_ino, again);
	if (geteuid() == 0) {
		assert_int_equal(chown(g.gl_pathv[0], 65534, 65534), 0);
		open_with(&request, &two, &first);
		assert_int_not_equal(first, again);
	}
	/* Checks that a symbolic link in the place of a file of the cache is not used. */
	assert_int_equal(rename(g.gl_pathv[0], "elsewhere"), 0);
	assert_int_equal(symlink("../elsewhere", g.gl_pathv[0]), 0);
	open_with(&request, &two, NULL);
	assert_int_equal(lstat(g.gl_pathv[0], &st), 0);
	assert_true(S_ISREG(st.st_mode));
	assert_int_equal(two.len, one.len);
	assert_memory_equal(two.s, one.s, one.len);
	globfree(&g);
}

static void test_cache_key(void **state)
{
	_cleanup_strbuf_ struct strbuf got = {0};
	struct guest_kernel_request q = request;

	make_plain();
	open_with(&q, &got, NULL);
	change_init("#!INIT");
	open_with(&q, &got, NULL);
	assert_non_null(memmem(got.s, got.len, "#!INIT", 6));
	assert_int_equal(count(CACHED), 2);
	usleep(20000);
	put_text("root/lib/modules/6.1/k/ext4.ko", "EXT4");
	open_with(&q, &got, NULL);
	assert_non_null(memmem(got.s, got.len, "EXT4", 4));
	assert_int_equal(count(CACHED), 3);
	put_vmlinuz("k/vmlinuz", "6.2");
	q.kernel = "k/vmlinuz";
	open_with(&q, &got, NULL);
	assert_int_equal(count(CACHED), 4);
	/*
	 * Checks that old files are removed from the cache, so that it does not grow without end.
	 */
	for (int i = 0; i < 10; i++) {
		change_init("#!more");
		open_with(&q, &got, NULL);
	}
	assert_int_equal(count(CACHED), 8);
}

/*
 * Checks the cases in which the cache cannot be used: no file may be left in the cache's directory,
 * and the initramfs must be the same as with a cache.
 */
static void test_no_cache(void **state)
{
	_cleanup_strbuf_ struct strbuf want = {0}, got = {0};
	static const char *const bad[] = {
		NULL, "/proc/caisson", "/dev/null", "caisson-guest/x", "open"};

	make_plain();
	open_with(&request, &want, NULL);
	assert_int_equal(mkdir("open", 0700), 0);
	assert_int_equal(chmod("open", 0777), 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct guest_kernel_request q = request;

		q.cache = bad[i];
		err_clear();
		open_with(&q, &got, NULL);
		assert_int_equal(got.len, want.len);
		assert_memory_equal(got.s, want.s, want.len);
		assert_string_equal(err_msg(), "");
	}
	assert_int_equal(count("open/*"), 0);
}

static void test_many_at_once(void **state)
{
	_cleanup_strbuf_ struct strbuf got = {0};
	int status, out[2];
	ino_t ino, first = 0;

	make_plain();
	put_file("caisson-guest", (char[1 << 20]){'#'}, 1 << 20);
	assert_int_equal(mkdir("cache", 0700), 0);
	put_text("cache/initramfs-00000000000000000000000000000000.tmp", "of a killed one");
	assert_int_equal(pipe(out), 0);
	for (int i = 0; i < 10; i++)
		if (fork() == 0) {
			open_with(&request, &got, &ino);
			_exit(write(out[1], &ino, sizeof(ino)) != sizeof(ino));
		}
	for (int i = 0; i < 10; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
		assert_int_equal(read(out[0], &ino, sizeof(ino)), sizeof(ino));
		if (i == 0)
			first = ino;
		/*
		 * One process must have built the initramfs, and the other processes must have
		 * opened the same file.
		 */
		assert_int_equal(ino, first);
	}
	close(out[0]);
	close(out[1]);
	assert_int_equal(count(CACHED), 1);
}

/* Tests Debian's kernel with all its modules, if the tests' cache or this machine has one. */
static void test_real(void **state)
{
	const char *cache = getenv("CAISSON_CACHE");
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf got = {0}, list = {0};
	char pattern[512];
	glob_t g = {0};

	snprintf(pattern, sizeof(pattern), "%s/kernel-*/vmlinux",
		cache ? cache : "/var/cache/caisson-tests");
	glob(pattern, 0, NULL, &g);
	glob("/boot/vmlinuz-*-amd64", GLOB_APPEND, NULL, &g);
	if (g.gl_pathc == 0) {
		print_message(
			"skipped: no %s (tests/host/run fetches it), no /boot/vmlinuz-*-amd64\n",
			pattern);
		globfree(&g);
		skip();
	}
	for (size_t i = 0; i < g.gl_pathc; i++) {
		struct guest_kernel_request q = {.kernel = g.gl_pathv[i], .init = "caisson-guest"};

		open_with(&q, &got, NULL);
		list_archive(&got, &list);
		/*
		 * This is a module in each release of Debian. virtiofs is one in Debian 12, and
		 * built into the kernel of Debian 13.
		 */
		assert_non_null(strstr(list.s, "/modules/vmw_vsock_virtio_transport.ko"));
		/* Debian 13's modules stay compressed, because its kernel unpacks them. */
		assert_in_range(got.len, 100000, 50000000);
	}
	globfree(&g);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, kernel_tree_setup, kernel_tree_teardown)
	const struct CMUnitTest tests[] = {T(test_contents), T(test_compressed_modules),
		T(test_cache), T(test_cache_key), T(test_no_cache), T(test_many_at_once),
		T(test_real)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
