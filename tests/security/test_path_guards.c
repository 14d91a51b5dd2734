/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests each guard of path lookup alone, together with a control that shows what must still work.
 * caisson itself has two guards one behind the other, so a test of the whole program would not
 * notice that one is missing. README.md in this directory has the table of guards, tests and
 * mutants.
 */
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/fd.h"
#include "base/path.h"
#include "unit/rig/box.h"

static int open_in(const char *root, const char *path)
{
	_cleanup_fd_ int dir = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);

	EXPECT(dir >= 0);
	return path_open(dir, path, O_PATH);
}

/*
 * The next tests are about lookups beneath the container's root, which must use RESOLVE_IN_ROOT and
 * RESOLVE_NO_MAGICLINKS.
 */

static void lookup_prepare(struct box *b)
{
	box_write(HOSTDIR "/secret", "of the host");
	box_write(ROOTFS "/etc/own", "of the image");
	EXPECT(symlink(HOSTDIR "/secret", ROOTFS "/etc/absolute") == 0);
	EXPECT(symlink("../../../../.." HOSTDIR "/secret", ROOTFS "/etc/relative") == 0);
	EXPECT(symlink("/etc/own", ROOTFS "/etc/inside") == 0);
	EXPECT(symlink(HOSTDIR, ROOTFS "/out") == 0);
	EXPECT(symlink(HOSTDIR "/dangling", ROOTFS "/etc/dangling") == 0);
	EXPECT(mkdir(ROOTFS "/proc", 0755) == 0);
}

static void lookup_init(struct box *b)
{
	_cleanup_fd_ int inside = open_in(ROOTFS, "/etc/inside");

	/*
	 * The control of this test: a lookup must still follow an absolute symbolic link, and must
	 * take "/" for the root of the image.
	 */
	EXPECT(inside >= 0);
	EXPECT_ERR(open_in(ROOTFS, "/etc/absolute"), ENOENT, "/etc/absolute");
	EXPECT_ERR(open_in(ROOTFS, "etc/relative"), ENOENT, "etc/relative");
	EXPECT_ERR(open_in(ROOTFS, "../host/secret"), ENOENT, "../host/secret");
	EXPECT_ERR(open_in(ROOTFS, "/out/secret"), ENOENT, "/out/secret");
}

BOX_TEST(lookups_stay_in_the_root, .prepare = lookup_prepare, .init = lookup_init)

static void create_init(struct box *b)
{
	_cleanup_fd_ int root = open(ROOTFS, O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	_cleanup_fd_ int dir = path_mkdirs(root, "/out/made/deep");
	_cleanup_fd_ int file = path_mkfile(root, "/out/file");
	_cleanup_fd_ int dangling = path_mkfile(root, "/etc/dangling");
	EXPECT(dir >= 0 && file >= 0 && dangling >= 0);
	EXPECT(stat(HOSTDIR "/made", &st) < 0 && stat(HOSTDIR "/file", &st) < 0);
	EXPECT(stat(HOSTDIR "/dangling", &st) < 0);
	/*
	 * The control of this test: all directories must have been made inside the image, at the
	 * places to which its symbolic links lead.
	 */
	EXPECT(stat(ROOTFS HOSTDIR "/made/deep", &st) == 0);
	EXPECT(stat(ROOTFS HOSTDIR "/file", &st) == 0);
	EXPECT(stat(ROOTFS HOSTDIR "/dangling", &st) == 0);
}

BOX_TEST(creating_stays_in_the_root, .prepare = lookup_prepare, .init = create_init)

static void magic_init(struct box *b)
{
	EXPECT(mount("proc", ROOTFS "/proc", "proc", 0, NULL) == 0);
	_cleanup_fd_ int status = open_in(ROOTFS, "/proc/self/status");

	EXPECT(status >= 0);
	EXPECT_ERR(open_in(ROOTFS, "/proc/self/cwd"), ELOOP, "/proc/self/cwd");
	EXPECT_ERR(open_in(ROOTFS, "/proc/self/root/etc"), ELOOP, "/proc/self/root/etc");
	EXPECT_ERR(open_in(ROOTFS, "/proc/self/exe"), ELOOP, "/proc/self/exe");
	EXPECT_ERR(open_in(ROOTFS, "/proc/thread-self/fd/0"), ELOOP, "fd/0");
}

BOX_TEST(magic_links_are_refused, .prepare = lookup_prepare, .init = magic_init)

static void nolinks_init(struct box *b)
{
	_cleanup_fd_ int root = open(ROOTFS, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_fd_ int own = path_open_nolinks(root, "/etc/own", O_PATH);

	EXPECT(own >= 0);
	EXPECT_ERR(path_open_nolinks(root, "/etc/inside", O_PATH), ELOOP, "/etc/inside");
	EXPECT_ERR(path_open_nolinks(root, "/out/../etc/own", O_PATH), ELOOP, "/out");
}

BOX_TEST(no_link_at_all, .prepare = lookup_prepare, .init = nolinks_init)

/*
 * The next tests are about the guard that accepts only the host's own procfs (CVE-2025-52881,
 * CVE-2025-62596).
 */

static void proc_prepare(struct box *b)
{
	box_write(BOX "/fake", "old");
}

static void proc_mounts_init(struct box *b)
{
	_cleanup_fd_ int proc = path_open_proc();

	EXPECT(proc >= 0);
	_cleanup_fd_ int before = path_open_in_proc(proc, "sys/kernel/ostype", O_RDONLY);
	EXPECT(before >= 0);
	/*
	 * The next lines mount three things over entries of the procfs: a file of another file
	 * system, a file of the same procfs, and a whole file system.
	 */
	EXPECT(mount(BOX "/fake", "/proc/sys/kernel/hostname", NULL, MS_BIND, NULL) == 0);
	EXPECT_ERR(path_write_proc(proc, "sys/kernel/hostname", "x"), EXDEV, "mounted over");
	EXPECT(box_has(BOX "/fake", "old"));
	EXPECT(mount("/proc/sys/kernel/osrelease", "/proc/sys/kernel/ostype", NULL, MS_BIND,
		       NULL) == 0);
	EXPECT_ERR(path_open_in_proc(proc, "sys/kernel/ostype", O_RDONLY), EXDEV, "mounted over");
	EXPECT(mount("t", "/proc/sys/net", "tmpfs", 0, NULL) == 0);
	EXPECT_ERR(path_open_in_proc(proc, "sys/net/core", O_RDONLY), EXDEV, "mounted over");
}

BOX_TEST(mounts_in_proc_are_not_entered, .prepare = proc_prepare, .init = proc_mounts_init)

static void proc_magic_init(struct box *b)
{
	_cleanup_fd_ int proc = path_open_proc();

	EXPECT(proc >= 0);
	EXPECT_ERR(path_open_in_proc(proc, "self/cwd", O_RDONLY), ELOOP, "self/cwd");
	EXPECT_ERR(path_open_in_proc(proc, "self/exe", O_RDONLY), ELOOP, "self/exe");
	EXPECT_ERR(path_open_in_proc(proc, "self/root/etc/passwd", O_RDONLY), ELOOP, "self/root");
}

BOX_TEST(magic_links_of_proc, .init = proc_magic_init)

static void proc_fake_init(struct box *b)
{
	_cleanup_fd_ int real = path_open_proc();

	EXPECT(real >= 0);
	/*
	 * Here a directory of a procfs is mounted on /proc. It is on a procfs too, so the guard
	 * must not rely on the type of the file system alone.
	 */
	EXPECT(mount("/proc/sys", "/proc", NULL, MS_BIND, NULL) == 0);
	EXPECT_ERR(path_open_proc(), EINVAL, "not a proc file system");
	EXPECT(umount2("/proc", MNT_DETACH) == 0);
	EXPECT(mount("t", "/proc", "tmpfs", 0, NULL) == 0);
	EXPECT_ERR(path_open_proc(), EINVAL, "not a proc file system");
}

BOX_TEST(only_a_procfs_is_taken_for_one, .init = proc_fake_init)

/*
 * Here a new tmpfs is mounted on /proc. Its root directory has the inode number of a procfs's root,
 * so the guard must not rely on the inode number alone.
 */
static void proc_inode_init(struct box *b)
{
	struct stat st;

	EXPECT(mount("t", "/proc", "tmpfs", 0, NULL) == 0);
	EXPECT(stat("/proc", &st) == 0 && st.st_ino == 1);
	EXPECT_ERR(path_open_proc(), EINVAL, "not a proc file system");
}

BOX_TEST(the_type_decides, .init = proc_inode_init)

/*
 * The next tests are about the guard that accepts only the real /dev/null for hiding paths
 * (CVE-2025-31133, CVE-2025-62161).
 */

static void null_prepare(struct box *b)
{
	EXPECT(unlink("/dev/null") == 0);
	box_write("/dev/null", "of an attacker");
}

static void null_other_prepare(struct box *b)
{
	EXPECT(unlink("/dev/null") == 0);
	EXPECT(mknod("/dev/null", S_IFCHR | 0666, makedev(1, 5)) == 0);
}

static void null_init(struct box *b)
{
	struct step s = {.kind = STEP_ATTACH_ROOT, .slot = 0, .open = {.path = ROOTFS}};

	EXPECT_ERR(step_attach_root(&b->c, &s), EINVAL, "not the character device 1:3");
}

BOX_TEST(null_is_a_file, .prepare = null_prepare, .init = null_init)
BOX_TEST(null_is_another_device, .prepare = null_other_prepare, .init = null_init)

/*
 * The next test is about device nodes and /dev/console: a symbolic link in their place must never
 * be followed.
 */

static void device_prepare(struct box *b)
{
	/*
	 * The node belongs to the host and has the number of the device that the container wants.
	 * The test makes a link in the image that leads to this node: if caisson followed the link,
	 * it would change the node's mode.
	 */
	EXPECT(mknod(HOSTDIR "/null", S_IFCHR | 0600, makedev(1, 3)) == 0);
	EXPECT(mkdir(ROOTFS "/dev", 0755) == 0);
	EXPECT(symlink(HOSTDIR "/null", ROOTFS "/dev/null") == 0);
	EXPECT(symlink(HOSTDIR "/console", ROOTFS "/dev/console") == 0);
	box_write(HOSTDIR "/console", "of the host");
}

static void device_init(struct box *b)
{
	struct spec_device null = {.path = "/dev/null", .type = 'c', .major = 1, .minor = 3};
	struct stat st;

	null.file_mode = (struct opt_u64){true, 0666};
	box_attach(b);
	EXPECT_ERR(box_device(b, null, -1), EEXIST, "symbolic link");
	EXPECT(stat(HOSTDIR "/null", &st) == 0 && (st.st_mode & 07777) == 0600);
	/*
	 * Before the step PIVOT, which changes the root, a symbolic link at /dev/console would lead
	 * to a file of the host. So caisson must refuse the link.
	 */
	EXPECT_ERR(mnt_console_target(b->c.root), EEXIST, "a symbolic link");
}

BOX_TEST(links_to_devices, .prepare = device_prepare, .init = device_init)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lookups_stay_in_the_root),
		cmocka_unit_test(test_creating_stays_in_the_root),
		cmocka_unit_test(test_magic_links_are_refused),
		cmocka_unit_test(test_no_link_at_all),
		cmocka_unit_test(test_mounts_in_proc_are_not_entered),
		cmocka_unit_test(test_magic_links_of_proc),
		cmocka_unit_test(test_only_a_procfs_is_taken_for_one),
		cmocka_unit_test(test_the_type_decides),
		cmocka_unit_test(test_null_is_a_file),
		cmocka_unit_test(test_null_is_another_device),
		cmocka_unit_test(test_links_to_devices),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
