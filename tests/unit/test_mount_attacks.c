/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile root file systems that try to mislead the mount steps of the container's first process
 * (INIT). The tests cover the rows of runtime-cves.md that concern paths, and each test names its
 * CVE. HOSTDIR is outside of the root file system and must never change.
 */
#include <dirent.h>
#include <linux/magic.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>

#include "base/fd.h"
#include "unit/rig/box.h"

static size_t entries(const char *path)
{
	DIR *d = opendir(path);
	size_t n = 0;

	EXPECT(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static void host_untouched(struct box *b)
{
	EXPECT(entries(HOSTDIR) == 0);
}

/*
 * CVE-2019-18837: in the root file system a symbolic link stands where a mount point must be made,
 * and leads to the host.
 */
static void link_prepare(struct box *b)
{
	box_write(BOX "/source", "from the host");
	EXPECT(symlink(HOSTDIR "/x", ROOTFS "/etc/resolv.conf") == 0);
	EXPECT(symlink("../../../../../../.." HOSTDIR "/y", ROOTFS "/etc/hosts") == 0);
	EXPECT(symlink(HOSTDIR "/z", ROOTFS "/etc/dir") == 0);
}

static const struct spec_mount file_binds[] = {
	{.destination = "/etc/resolv.conf", .source = BOX "/source", .bind = true},
	{.destination = "/etc/hosts", .source = BOX "/source", .bind = true},
};

static void link_host(struct box *b)
{
	for (size_t i = 0; i < ARRAY_SIZE(file_binds); i++)
		box_open(b, BOX "/source", &file_binds[i]);
}

static void link_init(struct box *b)
{
	box_attach(b);
	for (size_t i = 0; i < ARRAY_SIZE(file_binds); i++)
		EXPECT(box_mount(b, &file_binds[i], 1 + (int)i) >= 0);
	EXPECT(box_new(b, "tmpfs", "/etc/dir/deep", OPTS("size=4k")) >= 0);
	/*
	 * The symbolic links are absolute. The directories must have been made inside the root file
	 * system, at the places to which the links lead if its top is taken for "/".
	 */
	EXPECT(box_has(ROOTFS HOSTDIR "/x", "from the host"));
	EXPECT(box_has(ROOTFS HOSTDIR "/y", "from the host"));
	EXPECT(has(box_mountinfo(ROOTFS HOSTDIR "/z/deep"), "tmpfs"));
	EXPECT(entries(HOSTDIR) == 0);
	EXPECT(box_number(b, step_pivot, 0) >= 0);
	EXPECT(box_has("/etc/resolv.conf", "from the host"));
}

BOX_TEST(dangling_links, .prepare = link_prepare, .host = link_host, .init = link_init,
	.check = host_untouched)

/*
 * CVE-2019-19921, CVE-2023-27561, CVE-2023-28642, CVE-2025-54867: /proc and /sys of the root file
 * system are symbolic links.
 */
static void proc_link_prepare(struct box *b)
{
	EXPECT(mkdir(ROOTFS "/evil", 0755) == 0);
	EXPECT(symlink("/evil", ROOTFS "/proc") == 0);
	EXPECT(symlink(HOSTDIR, ROOTFS "/sys") == 0);
	EXPECT(symlink("evil", ROOTFS "/way") == 0);
}

static void proc_link_init(struct box *b)
{
	box_attach(b);
	EXPECT_ERR(box_new(b, "proc", "/proc", NULL), ELOOP, "symbolic link");
	EXPECT_ERR(box_new(b, "proc", "//./proc/", NULL), ELOOP, "symbolic link");
	EXPECT_ERR(box_new(b, "sysfs", "/sys", NULL), ELOOP, "symbolic link");
	EXPECT_ERR(box_new(b, "proc", "/way/p", NULL), ELOOP, "symbolic link");
	EXPECT(!has(box_mountinfo(ROOTFS "/evil"), "proc"));
}

BOX_TEST(proc_links, .prepare = proc_link_prepare, .init = proc_link_init, .check = host_untouched)

/* CVE-2019-16884: a file system other than procfs is mounted on /proc or beneath it. */
static void proc_cover_prepare(struct box *b)
{
	EXPECT(symlink("/proc/self/attr", ROOTFS "/way") == 0);
	EXPECT(symlink("/proc", ROOTFS "/way2") == 0);
	EXPECT(mkdir(BOX "/fake", 0755) == 0);
	box_write(BOX "/cpuinfo", "lxcfs");
}

static const struct spec_mount fake = {.destination = "/proc", .source = BOX "/fake", .bind = true};
static const struct spec_mount fake2 = {.destination = "/way", .source = BOX "/fake", .bind = true};
static const struct spec_mount cpuinfo = {
	.destination = "/proc/cpuinfo", .source = BOX "/cpuinfo", .bind = true};
static const struct spec_mount real = {.destination = "/proc", .source = "/proc", .bind = true};

static void proc_cover_host(struct box *b)
{
	box_open(b, BOX "/fake", &fake);
	box_open(b, BOX "/fake", &fake2);
	box_open(b, BOX "/cpuinfo", &cpuinfo);
	box_open(b, "/proc", &real);
}

static void proc_cover_init(struct box *b)
{
	box_attach(b);
	EXPECT_ERR(box_new(b, "tmpfs", "/proc", NULL), EPERM, "procfs");
	EXPECT_ERR(box_mount(b, &fake, 1), EPERM, "procfs");
	EXPECT_ERR(box_new(b, "tmpfs", "/x/../proc/self/attr", NULL), EPERM, "inside /proc");
	EXPECT(box_mount(b, &real, 4) >= 0);
	EXPECT(box_new(b, "proc", "/proc", NULL) >= 0);
	EXPECT_ERR(box_new(b, "tmpfs", "/proc", NULL), EPERM, "procfs");
	EXPECT_ERR(box_new(b, "tmpfs", "/way2", NULL), EPERM, "procfs");
	EXPECT_ERR(box_mount(b, &fake2, 2), EPERM, "inside /proc");
	EXPECT_ERR(box_new(b, "tmpfs", "/way2/self", NULL), EPERM, "inside /proc");
	EXPECT(box_mount(b, &cpuinfo, 3) >= 0);
	EXPECT(box_has(ROOTFS "/proc/cpuinfo", "lxcfs"));
}

BOX_TEST(proc_covers, .prepare = proc_cover_prepare, .host = proc_cover_host,
	.init = proc_cover_init, .check = host_untouched)

/*
 * CVE-2021-30465, CVE-2024-45310: while the mount point is made, an attacker replaces a directory
 * of a shared volume by a link to the host. The test tries 10,000 times, or for 3 seconds.
 */
static void race_prepare(struct box *b)
{
	EXPECT(mkdir(ROOTFS "/vol", 0777) == 0 && mkdir(ROOTFS "/vol/a", 0777) == 0);
	EXPECT(symlink(HOSTDIR, ROOTFS "/vol/b") == 0);
	EXPECT(symlink("../../../../../../../.." HOSTDIR, ROOTFS "/vol/c") == 0);
}

static pid_t start_swapping(void)
{
	pid_t pid = fork();

	EXPECT(pid >= 0);
	if (pid)
		return pid;
	alarm(20);
	for (unsigned i = 0;; i++)
		(void)renameat2(AT_FDCWD, ROOTFS "/vol/a", AT_FDCWD,
			i % 3 ? ROOTFS "/vol/b" : ROOTFS "/vol/c", RENAME_EXCHANGE);
}

static void race_init(struct box *b)
{
	struct timespec start, now;
	unsigned tries = 0, done = 0;
	char dest[64];

	box_attach(b);
	_cleanup_fd_ int outside = open(HOSTDIR, O_PATH | O_DIRECTORY | O_CLOEXEC);
	pid_t swapper = start_swapping();
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		snprintf(dest, sizeof(dest), "/vol/a/d%u/t", tries % 50);
		int r = tries % 4 == 3 ? box_device(b,
						 (struct spec_device){.path = "/vol/a/null",
							 .type = 'c',
							 .major = 1,
							 .minor = 3},
						 -1)
				       : box_new(b, "tmpfs", dest, OPTS("size=4k"));
		done += r >= 0;
		/*
		 * Unmounting each mount keeps the number of mounts small. umount2() may fail,
		 * because the attacker may have moved the directory.
		 */
		if (r >= 0 && fchdir(b->c.root) == 0)
			(void)umount2(dest + 1, MNT_DETACH);
		arena_release(&b->arena);
		b->arena = (struct arena){0};
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (++tries < 10000 && now.tv_sec - start.tv_sec < 3);
	kill(swapper, SIGKILL);
	EXPECT(waitpid(swapper, NULL, 0) == swapper);
	print_message("swap race: %u tries, %u mounts\n", tries, done);
	EXPECT(tries > 500 && done > 50);
	EXPECT(!box_has("/proc/self/mountinfo", " " HOSTDIR "/"));
	EXPECT(entries(HOSTDIR) == 0 && faccessat(outside, "null", F_OK, 0) < 0);
}

BOX_TEST(swap_race, .prepare = race_prepare, .init = race_init, .check = host_untouched)

/*
 * Returns false if the directory cannot be made because its mount is read-only. If the function
 * makes the directory, it removes it again, so that a failing test leaves nothing behind.
 */
static bool can_make(const char *dir)
{
	if (mkdir(dir, 0755) < 0)
		return errno != EROFS;
	rmdir(dir);
	return true;
}

/* CVE-2023-25809: the host's cgroups must not be writable from a user namespace. */
static void cgroup_init(struct box *b)
{
	box_attach(b);
	EXPECT(box_new(b, "cgroup", "/sys/fs/cgroup",
		       OPTS("nosuid", "noexec", "nodev", "relatime", "rw")) >= 0);
	EXPECT(!can_make(ROOTFS "/sys/fs/cgroup/caisson-escape"));
	EXPECT(faccessat(AT_FDCWD, ROOTFS "/sys/fs/cgroup/cgroup.controllers", F_OK, 0) == 0);
	EXPECT(has(box_mountinfo(ROOTFS "/sys/fs/cgroup"), "ro,nosuid,nodev,noexec"));
}

BOX_TEST(cgroup_userns, .init = cgroup_init, .flags = CLONE_NEWUSER)

static void cgroup_host_init(struct box *b)
{
	box_attach(b);
	EXPECT(box_new(b, "cgroup", "/sys/fs/cgroup", OPTS("ro", "nosuid", "noexec", "nodev")) >=
		0);
	EXPECT(!can_make(ROOTFS "/sys/fs/cgroup/caisson-escape"));
	/*
	 * Checks that the cgroup mount is writable without the option "ro", as with runc and crun.
	 */
	EXPECT(box_new(b, "cgroup", "/cg", NULL) >= 0);
	EXPECT(has(box_mountinfo(ROOTFS "/cg"), " rw,"));
}

BOX_TEST(cgroup_without_ns, .init = cgroup_host_init)

static void cgroup_ns_init(struct box *b)
{
	b->cgroup_ns = true;
	box_attach(b);
	EXPECT(box_new(b, "cgroup", "/sys/fs/cgroup", OPTS("nsdelegate", "ro", "nosuid")) >= 0);
	EXPECT(has(box_mountinfo(ROOTFS "/sys/fs/cgroup"), " ro,nosuid"));
	EXPECT(has(box_mountinfo(ROOTFS "/sys/fs/cgroup"), "- cgroup2"));
}

BOX_TEST(cgroup_with_ns, .init = cgroup_ns_init, .flags = CLONE_NEWCGROUP)
BOX_TEST(cgroup_with_ns_userns, .init = cgroup_ns_init, .flags = CLONE_NEWCGROUP | CLONE_NEWUSER)

/*
 * CVE-2025-31133, CVE-2025-62161: the runtime masks paths with the container's own /dev/null, which
 * the container may have replaced by something else.
 */
static void mask_prepare(struct box *b)
{
	EXPECT(mkdir(ROOTFS "/dev", 0755) == 0 && mkdir(ROOTFS "/secret", 0755) == 0);
	EXPECT(symlink("/secret/core_pattern", ROOTFS "/dev/null") == 0);
	box_write(ROOTFS "/secret/core_pattern", "secret");
	box_write(ROOTFS "/secret/b", "secret");
	box_write(ROOTFS "/secret/c", "secret");
	EXPECT(mkdir(ROOTFS "/secret/dir", 0755) == 0 && mkdir(ROOTFS "/secret/dir2", 0755) == 0);
	box_write(ROOTFS "/secret/dir/x", "secret");
	box_write(ROOTFS "/secret/dir2/x", "secret");
	EXPECT(symlink("/secret/b", ROOTFS "/link") == 0);
}

static void mask_init(struct box *b)
{
	static const char *const files[] = {"/secret/core_pattern", "/secret/b", "/secret/c"};
	struct stat st;

	box_attach(b);
	EXPECT(box_number(b, step_pivot, 0) >= 0);
	EXPECT(box_step_text(b, step_mask_path, "/secret/core_pattern") >= 0);
	EXPECT(box_step_text(b, step_mask_path, "/secret/c") >= 0);
	EXPECT(box_step_text(b, step_mask_path, "/link") >= 0);
	EXPECT(box_step_text(b, step_mask_path, "/secret/dir") >= 0);
	EXPECT(box_step_text(b, step_mask_path, "/secret/dir2/") >= 0);
	EXPECT(box_step_text(b, step_mask_path, "/secret/missing") >= 0);
	EXPECT(box_step_text(b, step_mask_path, "/secret/c/missing") >= 0);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		EXPECT(stat(files[i], &st) == 0);
		EXPECT(S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3));
		EXPECT(!box_has(files[i], "secret"));
		/*
		 * The device nodes that were bound into the container belong to the host, so the
		 * container must not be able to change their modes.
		 */
		EXPECT(chmod(files[i], 0) < 0 && errno == EROFS);
		EXPECT(chown(files[i], 1, 1) < 0 && errno == EROFS);
	}
	EXPECT(entries("/secret/dir") == 0 && entries("/secret/dir2") == 0);
	EXPECT(mkdir("/secret/dir/x", 0755) < 0 && errno == EROFS);
}

BOX_TEST(mask_null, .prepare = mask_prepare, .init = mask_init, .check = host_untouched)
BOX_TEST(mask_null_userns, .prepare = mask_prepare, .init = mask_init, .check = host_untouched,
	.flags = CLONE_NEWUSER)

/*
 * CVE-2025-52565: the container has replaced /dev/pts, its ptmx or /dev/console by something else.
 */
static void console_prepare(struct box *b)
{
	EXPECT(mkdir(ROOTFS "/dev", 0755) == 0 && mkdir(ROOTFS "/dev/pts", 0755) == 0);
	EXPECT(mkdir(ROOTFS "/other", 0755) == 0);
	EXPECT(mknod(ROOTFS "/dev/pts/ptmx", S_IFCHR | 0666, makedev(5, 2)) == 0);
	EXPECT(symlink(HOSTDIR "/console", ROOTFS "/dev/console") == 0);
}

static void console_init(struct box *b)
{
	box_attach(b);
	EXPECT(box_new(b, "devpts", "/other", OPTS("newinstance", "ptmxmode=0666")) >= 0);
	EXPECT(box_number(b, step_pivot, 0) >= 0);
	/*
	 * /dev/ptmx is a real ptmx node here, but it does not belong to a devpts, so the step
	 * CONSOLE must refuse it.
	 */
	EXPECT_ERR(box_console(b), ENODEV, "needs a devpts");
	EXPECT(rename("/dev/pts", "/dev/old") == 0);
	EXPECT_ERR(box_console(b), ENODEV, "needs a devpts");
	EXPECT(mkdir("/dev/pts", 0755) == 0);
	EXPECT(mount("t", "/dev/pts", "tmpfs", 0, NULL) == 0);
	EXPECT(mknod("/dev/pts/ptmx", S_IFCHR | 0666, makedev(5, 2)) == 0);
	EXPECT_ERR(box_console(b), ENODEV, "something else is there");
	EXPECT(umount2("/dev/pts", 0) == 0);
	EXPECT(mount("d", "/dev/pts", "devpts", 0, "newinstance,ptmxmode=0666") == 0);
	EXPECT(mount("/dev/old/ptmx", "/dev/pts/ptmx", NULL, MS_BIND, NULL) == 0);
	EXPECT_ERR(box_console(b), EXDEV, "mounted over");
	EXPECT(umount2("/dev/pts/ptmx", 0) == 0);
	/*
	 * CVE-2026-88264: the container's first process must neither follow nor replace a symbolic
	 * link at /dev/console.
	 */
	EXPECT_ERR(box_console(b), EEXIST, "/dev/console is a symbolic link");
	EXPECT(b->console < 0);
	EXPECT(unlink("/dev/console") == 0);
	EXPECT(box_console(b) >= 0 && b->console >= 0);
}

BOX_TEST(console_paths, .prepare = console_prepare, .init = console_init, .check = host_untouched)

/*
 * CVE-2026-47766, CVE-2026-41579, CVE-2026-88265: /dev is no mount, and /dev or an entry of it is a
 * link to the host.
 */
static void dev_link_prepare(struct box *b)
{
	box_write(BOX "/victim", "precious");
	EXPECT(symlink(HOSTDIR, ROOTFS "/dev") == 0);
	EXPECT(mkdir(ROOTFS "/dev2", 0755) == 0);
	EXPECT(symlink(BOX "/victim", ROOTFS "/dev2/null") == 0);
	EXPECT(symlink(HOSTDIR "/new", ROOTFS "/dev2/zero") == 0);
	EXPECT(symlink(BOX "/victim", ROOTFS "/dev2/fd") == 0);
}

static void dev_link_host(struct box *b)
{
	box_open(b, "/dev/null", NULL);
}

static void dev_link_init(struct box *b)
{
	struct spec_device null = {.path = "/dev/null", .type = 'c', .major = 1, .minor = 3};
	struct spec_device bad = null, zero = null;
	struct stat st;

	bad.path = "/dev2/null";
	zero.path = "/dev2/zero";
	zero.uid = (struct opt_u64){true, 7};
	box_attach(b);
	EXPECT(box_device(b, null, -1) >= 0);
	EXPECT(lstat(ROOTFS HOSTDIR "/null", &st) == 0 && S_ISCHR(st.st_mode));
	EXPECT(box_link(b, "/proc/self/fd", "/dev/fd") >= 0);
	EXPECT_ERR(box_device(b, bad, -1), EEXIST, "symbolic link");
	EXPECT_ERR(box_device(b, zero, -1), EEXIST, "symbolic link");
	EXPECT_ERR(box_device(b, bad, 1), EEXIST, "symbolic link");
	/*
	 * A link that the image has must stay as it is, and nothing may be written through this
	 * link.
	 */
	EXPECT(box_link(b, "/proc/self/fd", "/dev2/fd") >= 0);
	EXPECT(box_has(BOX "/victim", "precious"));
	EXPECT(lstat(BOX "/victim", &st) == 0 && st.st_uid == 0 && (st.st_mode & 0777) == 0644);
}

BOX_TEST(dev_links, .prepare = dev_link_prepare, .host = dev_link_host, .init = dev_link_init,
	.check = host_untouched)

/*
 * Checks that a mount on the root of the container is refused, whatever name config.json uses for
 * the root.
 */
static void root_prepare(struct box *b)
{
	EXPECT(symlink("/", ROOTFS "/self") == 0);
	EXPECT(symlink("../../..", ROOTFS "/up") == 0);
}

static void root_init(struct box *b)
{
	box_attach(b);
	EXPECT_ERR(box_new(b, "tmpfs", "/", NULL), EINVAL, "root itself");
	EXPECT_ERR(box_new(b, "tmpfs", "/a/../..", NULL), EINVAL, "root itself");
	EXPECT_ERR(box_new(b, "tmpfs", "/self", NULL), EINVAL, "root itself");
	EXPECT_ERR(box_new(b, "tmpfs", "/up", NULL), EINVAL, "root itself");
}

BOX_TEST(root_target, .prepare = root_prepare, .init = root_init)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dangling_links),
		cmocka_unit_test(test_proc_links),
		cmocka_unit_test(test_proc_covers),
		cmocka_unit_test(test_swap_race),
		cmocka_unit_test(test_cgroup_userns),
		cmocka_unit_test(test_cgroup_without_ns),
		cmocka_unit_test(test_cgroup_with_ns),
		cmocka_unit_test(test_cgroup_with_ns_userns),
		cmocka_unit_test(test_mask_null),
		cmocka_unit_test(test_mask_null_userns),
		cmocka_unit_test(test_console_paths),
		cmocka_unit_test(test_dev_links),
		cmocka_unit_test(test_root_target),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
