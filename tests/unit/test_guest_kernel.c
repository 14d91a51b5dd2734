/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The search for the guest's kernel and the making of its initramfs, in made-up trees: kernels are
 * headers with a version, modules a line of text. Debian's own kernel at the end.
 */
#include <elf.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "images/guest/guest_kernel.h"
#include "images/guest/kernel_image.h"

#define CACHED "cache/initramfs-*"
/* Every need of guest_kernel.c, and what they depend on. */
#define DEP \
	"k/virtio.ko:\nk/virtio_ring.ko: k/virtio.ko\nk/virtio_mmio.ko: k/virtio_ring.ko " \
	"k/virtio.ko\n" \
	"k/fuse.ko:\nk/virtiofs.ko: k/fuse.ko k/virtio_ring.ko k/virtio.ko\n" \
	"k/vsock.ko:\nk/vmw_vsock_virtio_transport.ko: k/vsock.ko\nk/virtio_console.ko:\n" \
	"k/virtio_blk.ko:\nk/virtio_net.ko:\nk/virtio-rng.ko:\nk/virtio_balloon.ko:\n" \
	"k/overlay.ko:\nk/ext4.ko:\nk/unrelated.ko:\n"
#define FILES \
	"virtio virtio_ring virtio_mmio fuse virtiofs vsock vmw_vsock_virtio_transport " \
	"virtio_console virtio_blk virtio_net virtio-rng virtio_balloon overlay ext4"
#define CONFIG \
	"CONFIG_VIRTIO_MMIO=y\nCONFIG_VIRTIO_FS=y\nCONFIG_VIRTIO_VSOCKETS=y\n" \
	"CONFIG_VIRTIO_CONSOLE=y\nCONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_NET=y\n" \
	"CONFIG_HW_RANDOM_VIRTIO=y\nCONFIG_VIRTIO_BALLOON=y\nCONFIG_OVERLAY_FS=y\n"

static char dir[64]; /* of this test; the current one too */

/* ---- making things ---- */

static void put(const char *path, const void *data, size_t len)
{
	char copy[256];

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *p = copy; (p = strchr(p + 1, '/'));) {
		*p = '\0';
		mkdir(copy, 0755);
		*p = '/';
	}
	_cleanup_fd_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, data, len), 0);
}

static void put_text(const char *path, const char *text)
{
	put(path, text, strlen(text));
}

/* A bzImage of boot protocol 2.15: one sector of setup behind the boot sector, 64 bytes of code. */
static size_t make_bzimage(unsigned char image[2048], const char *release)
{
	memset(image, 0, 2048);
	image[0x1f1] = 2;
	image[0x1f4] = 4; /* times 16 bytes */
	image[0x1fe] = 0x55;
	image[0x1ff] = 0xaa;
	memcpy(image + 0x202, "HdrS\x0f\x02", 6);
	image[0x20f] = 1; /* 0x100, and 0x200 */
	snprintf((char *)image + 0x300, 128, "%s (someone@somewhere) #1 SMP", release);
	return 3 * 512 + 64;
}

static void put_vmlinuz(const char *path, const char *release)
{
	unsigned char image[2048];
	size_t len = make_bzimage(image, release);

	put(path, image, len);
}

/* An ELF kernel of one segment of `size` bytes that has the banner at `at`. */
static void put_vmlinux(const char *path, const char *release, size_t size, size_t at)
{
	Elf64_Ehdr e = {.e_ident = ELFMAG "\2\1\1",
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_phoff = sizeof(e),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = 1};
	Elf64_Phdr p = {.p_type = PT_LOAD, .p_filesz = size, .p_memsz = size};
	_cleanup_free_ char *image = calloc(1, size);

	assert_non_null(image);
	memcpy(image, &e, sizeof(e));
	memcpy(image + sizeof(e), &p, sizeof(p));
	memcpy(image + sizeof(e) + sizeof(p), "Linux version %s", 16);
	if (release)
		snprintf(image + at, size - at, "Linux version %s (someone) #1\n", release);
	put(path, image, size);
}

/* modules/RELEASE beneath base, the files with the suffix. */
static void put_modules(const char *base, const char *release, const char *dep, const char *suffix)
{
	char path[256], names[512] = FILES, *save;

	snprintf(path, sizeof(path), "%s/%s/modules.dep", base, release);
	put_text(path, dep);
	for (char *n = strtok_r(names, " ", &save); n; n = strtok_r(NULL, " ", &save)) {
		snprintf(path, sizeof(path), "%s/%s/k/%s.ko%s", base, release, n, suffix);
		put_text(path, n);
	}
}

static int setup(void **state)
{
	snprintf(dir, sizeof(dir), "/tmp/caisson-kernel.XXXXXX");
	umask(022);
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	put_text("caisson-init", "#!init");
	err_clear();
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static int teardown(void **state)
{
	assert_int_equal(chdir("/"), 0);
	return nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- asking ---- */

static const struct guest_kernel_request request = {
	.init = "caisson-init", .cache = "cache", .root = "root"};

static void find(const char *kernel, const char *expect)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_guest_kernel_ struct guest_kernel k = GUEST_KERNEL_INIT;

	err_clear();
	assert_int_equal(
		guest_kernel_find(
			&a, &(struct guest_kernel_request){.kernel = kernel, .root = "root"}, &k),
		0);
	assert_string_equal(k.release, expect);
	assert_true(k.kernel >= 0 && k.initramfs < 0);
	assert_int_equal(k.tuned, strstr(expect, "-caisson") != NULL);
	assert_string_equal(err_msg(), "");
}

static void find_fails(const char *kernel, int code, const char *text)
{
	_cleanup_arena_ struct arena a = {0};
	struct guest_kernel k;

	err_clear();
	int r = guest_kernel_find(
		&a, &(struct guest_kernel_request){.kernel = kernel, .root = "root"}, &k);
	if (r != -code || !strstr(err_msg(), text))
		fail_msg("got %d \"%s\", expected %d \"%s\"", r, err_msg(), -code, text);
}

/* The initramfs, its inode in *ret_ino. */
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

/* The entries of a concatenation: "NAME MODE;", for regular files "NAME MODE=CONTENT;". */
static void list_archive(const struct strbuf *archive, struct strbuf *ret)
{
	size_t at = 0;

	strbuf_reset(ret);
	while (at + 110 <= archive->len) {
		const char *h = archive->s + at;

		if (*h == '\0') { /* between archives */
			at++;
			continue;
		}
		assert_memory_equal(h, "070701", 6);
		unsigned mode = field(h, 1), size = field(h, 6), name = field(h, 11);
		size_t data = (at + 110 + name + 3) & ~(size_t)3;
		assert_true(data + size <= archive->len);
		if (!streq(h + 110, "TRAILER!!!")) {
			assert_int_equal(field(h, 2) + field(h, 3), 0); /* root:root */
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

/* ---- what a file is ---- */

static void read_image(const char *path, enum kernel_format format, const char *release)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct kernel_image image;

	if (kernel_image_read(&a, fd, path, &image) != 0)
		fail_msg("%s", err_msg());
	assert_int_equal(image.format, format);
	assert_string_equal(image.release, release);
}

static void test_formats(void **state)
{
	char longest[65];

	put_vmlinuz("bz", "6.1.0-56-amd64");
	read_image("bz", KERNEL_BZIMAGE, "6.1.0-56-amd64");
	/* At every place around a chunk's end, and as the last bytes. */
	for (size_t at = 65536 - 90; at < 65536 + 20; at++) {
		put_vmlinux("elf", "6.1.192-caisson", 70000, at);
		read_image("elf", KERNEL_ELF, "6.1.192-caisson");
	}
	memset(longest, '7', 64);
	longest[64] = '\0';
	put_vmlinux("elf", longest, 300, 200);
	read_image("elf", KERNEL_ELF, longest);
}

static void test_no_kernel(void **state)
{
	unsigned char image[2048];

	find_fails("absent", ENOENT, "vm.kernel.path: kernel absent: does not exist");
	find_fails(".", EINVAL, "expected a kernel, not a directory");
	find_fails("/dev/null", EINVAL, "expected a kernel, not a special file");
	put("empty", "", 0);
	find_fails("empty", ENOEXEC, "empty: not a kernel: neither ELF (vmlinux) nor bzImage");
	put_text("script", "#!/bin/sh\n");
	find_fails("script", ENOEXEC, "starts with 23 21 2f 62");
	find_fails("/bin/sh", ENOEXEC, "a program of user space");
	put_vmlinux("elf", NULL, 4096, 0);
	find_fails("elf", ENOEXEC, "not a Linux kernel");
	put_vmlinux("elf", "6.1\t", 4096, 512);
	find_fails("elf", ENOEXEC, "not a Linux kernel");
	put_vmlinux("elf", "6.1.0", 4096, 512);
	for (off_t size = 4095; size >= 4; size /= 2) {
		assert_int_equal(truncate("elf", size), 0);
		find_fails("elf", EINVAL, "elf: truncated");
	}
	size_t len = make_bzimage(image, "6.1.0");
	put("bz", image, len - 1);
	find_fails("bz", EINVAL, "bz: truncated: a bzImage of 1600 bytes, of which 1599");
	put("bz", image, 0x210);
	find_fails("bz", EINVAL, "bz: truncated");
	memset(image + 0x300, 'x', 200);
	put("bz", image, len);
	find_fails("bz", ENOEXEC, "names no kernel version");
	memcpy(image + 0x20e, "\xff\xff", 2);
	put("bz", image, len);
	find_fails("bz", ENOEXEC, "names no kernel version");
}

/* Any four bytes of the ELF header changed: an answer, not a crash, and never another release. */
static void test_damaged_elf(void **state)
{
	_cleanup_arena_ struct arena a = {0};
	static const unsigned char bad[] = {0, 1, 0x7f, 0x80, 0xff};

	for (size_t at = 0; at < sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr); at += 2)
		for (size_t i = 0; i < sizeof(bad); i++) {
			struct kernel_image image;

			put_vmlinux("elf", "6.1.0", 1024, 512);
			_cleanup_fd_ int fd = open("elf", O_RDWR | O_CLOEXEC);
			unsigned char value[4] = {bad[i], bad[i], bad[i], bad[i]};
			assert_int_equal(pwrite(fd, value, 4, (off_t)at), 4);
			int r = kernel_image_read(&a, fd, "elf", &image);
			assert_true(r == -EINVAL || r == -ENOEXEC ||
				    (r == 0 && streq(image.release, "6.1.0")));
		}
}

/* ---- which kernel ---- */

static void test_search(void **state)
{
	struct utsname uts;

	find_fails(NULL, ENOENT, "apt-get install linux-image-amd64");
	find_fails(NULL, ENOENT, "images/kernel/build");
	put_text("root/boot/vmlinuz-broken", "?");
	find_fails(NULL, ENOENT, "root/boot/vmlinuz-broken: not a kernel");
	put_vmlinuz("root/boot/vmlinuz-5", "5.9.0-1");
	find_fails(NULL, ENOENT, "no modules for it in /lib/modules/5.9.0-1");
	put_modules("root/lib/modules", "5.9.0-1", DEP, "");
	find(NULL, "5.9.0-1");
	put_vmlinuz("root/boot/vmlinuz-10", "5.10.0-1");
	put_modules("root/usr/lib/modules", "5.10.0-1", DEP, "");
	find(NULL, "5.10.0-1");
	/* Higher, but without what it needs. */
	put_vmlinuz("root/boot/vmlinuz-6", "6.1");
	put_modules("root/lib/modules", "6.1", "k/virtio_mmio.ko:\n", "");
	find(NULL, "5.10.0-1");
	assert_int_equal(uname(&uts), 0);
	put_vmlinuz("root/boot/vmlinuz-running", uts.release);
	put_modules("root/lib/modules", uts.release, DEP, "");
	find(NULL, uts.release);
	put_vmlinux("root/usr/lib/caisson/kernel/vmlinux", "4.9-caisson", 1024, 512);
	put_text("root/usr/lib/caisson/kernel/config", CONFIG "CONFIG_EXT4_FS=y\n");
	find(NULL, "4.9-caisson");
	/* A broken installation is told, not passed over. */
	assert_int_equal(truncate("root/usr/lib/caisson/kernel/vmlinux", 700), 0);
	find_fails(NULL, EINVAL, "the installed caisson kernel: ");
}

static void test_kernel_lacks(void **state)
{
	static const struct {
		const char *module, *text;
	} cases[] = {
		{"k/virtiofs.ko", "no virtiofs (CONFIG_VIRTIO_FS, virtio-fs, its root"},
		{"k/vmw_vsock_virtio_transport.ko", "(CONFIG_VIRTIO_VSOCKETS, vsock"},
		{"k/virtio_mmio.ko", "no virtio_mmio"},
		{"k/virtio-rng.ko", "no virtio_rng"},
	};

	put_vmlinuz("root/boot/vmlinuz-6", "6.1");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		char dep[] = DEP;

		strstr(dep, cases[i].module)[3] = 'X';
		put_modules("root/lib/modules", "6.1", dep, "");
		find_fails("root/boot/vmlinuz-6", EOPNOTSUPP, cases[i].text);
		find_fails(NULL, ENOENT, cases[i].text);
		/* Built in is as good. */
		put_text("root/lib/modules/6.1/modules.builtin", cases[i].module);
		find(NULL, "6.1");
		assert_int_equal(unlink("root/lib/modules/6.1/modules.builtin"), 0);
	}
}

static void test_named_kernel(void **state)
{
	put_vmlinuz("k/vmlinuz", "6.6");
	find("k/vmlinuz", "6.6"); /* nothing tells what it has */
	put_text("k/config-6.6", CONFIG "CONFIG_EXT4_FS=m\n");
	find_fails("k/vmlinuz", EOPNOTSUPP, "no ext4");
	put_text("k/config-6.6", CONFIG "# CONFIG_EXT4_FS is not set\nCONFIG_EXT4_FS=yes\n");
	find_fails("k/vmlinuz", EOPNOTSUPP, "no ext4");
	put_text("k/config-6.6", CONFIG "CONFIG_EXT4_FS=y");
	find("k/vmlinuz", "6.6");
	put_modules("k/modules", "6.6", "k/ext4.ko:\n", "");
	find_fails("k/vmlinuz", EOPNOTSUPP, "no virtio_mmio");
	put_modules("k/modules", "6.6", DEP, "");
	find("k/vmlinuz", "6.6");
	put_text("k/modules/6.6/modules.dep", "no colon\n");
	find_fails("k/vmlinuz", EINVAL, "modules of k/vmlinuz: k/modules/6.6/modules.dep: line 1");
}

/* ---- the initramfs ---- */

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

	/* The tuned one: only init. */
	put_vmlinux("root/usr/lib/caisson/kernel/vmlinux", "6.1-caisson", 1024, 512);
	put_text("root/usr/lib/caisson/kernel/config", CONFIG "CONFIG_EXT4_FS=y\n");
	open_with(&q, &got, NULL);
	list_archive(&got, &list);
	assert_string_equal(list.s, HEAD "init 100755=#!init;");

	/* Behind the user's own. */
	q.initrd = "theirs";
	put("theirs", got.s, got.len);
	put_text("caisson-init", "#!second");
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

	/* As DEP, with the suffix. */
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
	/* A kernel that unpacks them itself gets them as they are. */
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

/* ---- the cache ---- */

/* Of the same length, so that only the times tell; they count in ticks of the kernel's. */
static void change_init(const char *text)
{
	usleep(20000);
	put_text("caisson-init", text);
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

	/* Others could have written it: not believed, and replaced. */
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
	/* Neither is a link to one. */
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
	/* It does not grow for ever. */
	for (int i = 0; i < 10; i++) {
		change_init("#!more");
		open_with(&q, &got, NULL);
	}
	assert_int_equal(count(CACHED), 8);
}

/* Each leaves nothing in the cache, and has the same archive as the cache gives. */
static void test_no_cache(void **state)
{
	_cleanup_strbuf_ struct strbuf want = {0}, got = {0};
	static const char *const bad[] = {
		NULL, "/proc/caisson", "/dev/null", "caisson-init/x", "open"};

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
	put("caisson-init", (char[1 << 20]){'#'}, 1 << 20);
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
		/* One has built it, and all have that one. */
		assert_int_equal(ino, first);
	}
	close(out[0]);
	close(out[1]);
	assert_int_equal(count(CACHED), 2);
}

/* Debian's kernel with all its modules, where the tests' cache or this machine has one. */
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
		struct guest_kernel_request q = {.kernel = g.gl_pathv[i], .init = "caisson-init"};

		open_with(&q, &got, NULL);
		list_archive(&got, &list);
		assert_non_null(strstr(list.s, "/modules/virtiofs.ko"));
		assert_non_null(strstr(list.s, "/modules/vmw_vsock_virtio_transport.ko"));
		assert_true(got.len > 500000 && got.len < 50000000);
	}
	globfree(&g);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {T(test_formats), T(test_no_kernel), T(test_damaged_elf),
		T(test_search), T(test_kernel_lacks), T(test_named_kernel), T(test_contents),
		T(test_compressed_modules), T(test_cache), T(test_cache_key), T(test_no_cache),
		T(test_many_at_once), T(test_real)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
