/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the mount steps of the container's first process (INIT). The results are read from the
 * kernel: mountinfo, statx, the terminal.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>

#include "unit/rig/box.h"

static void test_clean_path(void **state)
{
	static const struct {
		const char *path, *clean;
	} table[] = {
		{"/a/b", "/a/b"},
		{"a", "/a"},
		{"//a///b//", "/a/b"},
		{"/./a/./b/.", "/a/b"},
		{"/a/../b", "/b"},
		{"/../../a", "/a"},
		{"/a/..", "/"},
		{"", "/"},
		{"/..a/...", "/..a/..."},
		{"/proc/../proc/./self/..", "/proc"},
	};
	char got[PATH_MAX], longest[PATH_MAX + 10];

	for (size_t i = 0; i < ARRAY_SIZE(table); i++) {
		assert_int_equal(mnt_clean_path(table[i].path, got), 0);
		assert_string_equal(got, table[i].clean);
	}
	memset(longest, 'x', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(mnt_clean_path(longest, got), -ENAMETOOLONG);
	longest[PATH_MAX - 2] = '\0';
	assert_int_equal(mnt_clean_path(longest, got), 0);
}

/* Checks the mounts of an ordinary config.json, with masked and read-only paths. */
static void ordinary_init(struct box *b)
{
	struct spec_device tty = {.path = "/dev/tty", .type = 'c', .major = 5, .minor = 0};
	struct stat st;

	box_attach(b);
	EXPECT(box_new(b, "proc", "/proc", NULL) >= 0);
	EXPECT(box_new(b, "tmpfs", "/dev",
		       OPTS("nosuid", "strictatime", "mode=755", "size=65536k")) >= 0);
	EXPECT(box_new(b, "devpts", "/dev/pts",
		       OPTS("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")) >= 0);
	EXPECT(box_new(b, "tmpfs", "/dev/shm", OPTS("nosuid", "noexec", "nodev", "mode=1777")) >=
		0);
	EXPECT(box_new(b, "mqueue", "/dev/mqueue", OPTS("nosuid", "noexec", "nodev")) >= 0);
	EXPECT(box_new(b, "sysfs", "/sys", OPTS("nosuid", "noexec", "nodev", "ro")) >= 0);
	if (!b->plan.userns)
		EXPECT(box_device(b, tty, -1) >= 0);
	EXPECT(box_link(b, "pts/ptmx", "/dev/ptmx") >= 0);
	EXPECT(box_link(b, "/proc/kcore", "/dev/core") >= 0);
	EXPECT(box_number(b, step_pivot, 0) >= 0);
	EXPECT(box_step_text(b, step_readonly_path, "/proc/sys") >= 0);
	EXPECT(box_step_text(b, step_readonly_path, "/proc/missing") >= 0);
	EXPECT(box_step_text(b, step_mask_path, "/proc/keys") >= 0);
	EXPECT(box_number(b, step_readonly_root, 0) >= 0);
	EXPECT(box_number(b, step_root_propagation, MS_SHARED | MS_REC) >= 0);

	EXPECT(has(box_mountinfo("/dev"), "rw,nosuid - tmpfs") ||
		(has(box_mountinfo("/dev"), "rw,nosuid ") &&
			has(box_mountinfo("/dev"), "- tmpfs tmpfs rw,size=65536k")));
	EXPECT(has(box_mountinfo("/dev/pts"), "rw,nosuid,noexec,relatime "));
	EXPECT(has(box_mountinfo("/dev/shm"), "rw,nosuid,nodev,noexec,relatime "));
	EXPECT(has(box_mountinfo("/sys"), " ro,nosuid,nodev,noexec,relatime "));
	EXPECT(has(box_mountinfo("/proc/sys"), " ro,relatime "));
	EXPECT(has(box_mountinfo("/"), " / ro,relatime shared:"));
	EXPECT(has(box_mountinfo("/proc"), "shared:"));
	EXPECT(open("/proc/sys/net/ipv4/ip_forward", O_WRONLY | O_CLOEXEC) < 0 && errno == EROFS);
	EXPECT(mkdir("/x", 0755) < 0 && errno == EROFS);
	EXPECT(stat("/dev/ptmx", &st) == 0 && st.st_rdev == makedev(5, 2));
	EXPECT(stat("/dev/shm", &st) == 0 && (st.st_mode & 07777) == 01777);
	EXPECT(stat("/proc/keys", &st) == 0 && st.st_rdev == makedev(1, 3));
	/* Checks that the container sees no mount of the host. */
	EXPECT(access(BOX, F_OK) < 0 && !box_has("/proc/self/mountinfo", BOX));
	EXPECT(umask(022) == 022);
}

#define ORDINARY (CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWNET)
BOX_TEST(ordinary, .init = ordinary_init, .flags = ORDINARY)
BOX_TEST(ordinary_userns, .init = ordinary_init, .flags = ORDINARY | CLONE_NEWUSER)

/* In a user namespace without its own network, sysfs must be the host's, bound read-only. */
static void sysfs_init(struct box *b)
{
	box_attach(b);
	EXPECT(box_new(b, "sysfs", "/sys", OPTS("nosuid")) >= 0);
	EXPECT(has(box_mountinfo(ROOTFS "/sys"), " ro,nosuid,nodev,noexec"));
	EXPECT(access(ROOTFS "/sys/class", F_OK) == 0);
	EXPECT_ERR(box_new(b, "proc", "/proc", NULL), EPERM, "pid namespace");
	EXPECT_ERR(box_new(b, "ext4", "/mnt", NULL), EPERM, "user namespace");
	EXPECT_ERR(box_new(b, "devpts", "/dev/pts", OPTS("gid=70000")), EINVAL, "does not accept");
	static const struct spec_id_map one = {.host_id = 100000, .size = 1};
	b->gid_maps = (struct spec_id_maps){.v = &one, .n = 1};
	EXPECT_ERR(box_new(b, "devpts", "/dev/pts", OPTS("mode=0620,gid=70000")), EINVAL,
		"does not accept");
	EXPECT_ERR(box_new(b, "devpts", "/dev/pts", OPTS("gid=70000")), EINVAL, "gidMappings");
}

BOX_TEST(userns_limits, .init = sysfs_init, .flags = CLONE_NEWUSER)

/*
 * Tests bind mounts: recursion, types of targets, and attributes, also those that no option names.
 */
static const char *const bind_opts[] = {"rbind", "ro", "nosuid", "noatime", NULL};
static const char *const rro_opts[] = {"rbind", "rro", "rnodev", NULL};
static const char *const rw_opts[] = {"bind", "rw", "relatime", NULL};
static const char *const plain_opts[] = {"bind", NULL};
static struct spec_mount binds[6];

static void bind_prepare(struct box *b)
{
	EXPECT(mkdir(BOX "/src", 0755) == 0 && mkdir(BOX "/src/sub", 0755) == 0);
	EXPECT(mount("sub", BOX "/src/sub", "tmpfs", MS_NOEXEC, NULL) == 0);
	EXPECT(mkdir(BOX "/locked", 0755) == 0);
	EXPECT(mount("locked", BOX "/locked", "tmpfs", MS_RDONLY | MS_NODEV | MS_NOATIME, NULL) ==
		0);
	box_write(BOX "/file", "text");
}

static void bind_host(struct box *b)
{
	binds[0] = box_entry(b, "bind", "/plain", bind_opts);
	binds[1] = box_entry(b, "bind", "/deep/rro", rro_opts);
	binds[2] = box_entry(b, "bind", "/locked", plain_opts);
	binds[3] = box_entry(b, "bind", "/unlocked", rw_opts);
	binds[4] = box_entry(b, "bind", "/etc/new/file", plain_opts);
	binds[5] = box_entry(b, "bind", "/etc", plain_opts);
	box_open(b, BOX "/src", &binds[0]);
	box_open(b, BOX "/src", &binds[1]);
	box_open(b, BOX "/locked", &binds[2]);
	box_open(b, BOX "/locked", &binds[3]);
	box_open(b, BOX "/file", &binds[4]);
	box_open(b, BOX "/file", &binds[5]);
}

static void bind_init(struct box *b)
{
	struct stat st;

	box_attach(b);
	for (int i = 0; i < 5; i++)
		EXPECT(box_mount(b, &binds[i], 1 + i) >= 0);
	EXPECT_ERR(box_mount(b, &binds[5], 6), EISDIR, "/etc is a directory");
	EXPECT(has(box_mountinfo(ROOTFS "/plain"), " ro,nosuid,noatime "));
	EXPECT(has(box_mountinfo(ROOTFS "/plain/sub"), " rw,noexec,relatime "));
	EXPECT(has(box_mountinfo(ROOTFS "/deep/rro"), " ro,nodev,relatime "));
	EXPECT(has(box_mountinfo(ROOTFS "/deep/rro/sub"), " ro,nodev,noexec,relatime "));
	EXPECT(has(box_mountinfo(ROOTFS "/locked"), " ro,nodev,noatime "));
	EXPECT(has(box_mountinfo(ROOTFS "/unlocked"), " rw,nodev,relatime "));
	EXPECT(stat(ROOTFS "/deep", &st) == 0 && (st.st_mode & 07777) == 0755);
	EXPECT(box_has(ROOTFS "/etc/new/file", "text"));
	/* "remount" must change only those attributes of the mount that its options name. */
	EXPECT(box_new(b, "bind", "/plain", OPTS("bind", "remount", "nodev", "suid")) >= 0);
	EXPECT(has(box_mountinfo(ROOTFS "/plain"), " ro,nodev,noatime "));
	EXPECT(box_new(b, "tmpfs", "/t", OPTS("size=64k")) >= 0);
	EXPECT(box_new(b, "tmpfs", "/t", OPTS("remount", "size=128k", "ro")) >= 0);
	EXPECT(has(box_mountinfo(ROOTFS "/t"), " ro,relatime ") &&
		has(box_mountinfo(ROOTFS "/t"), "size=128k"));
	EXPECT_ERR(box_new(b, "bind", "/tmp", OPTS("remount", "ro")), EINVAL, "nothing is mounted");
	EXPECT_ERR(box_new(b, "bind", "/nil", OPTS("remount", "ro")), ENOENT, "/nil");
}

BOX_TEST(binds, .prepare = bind_prepare, .host = bind_host, .init = bind_init)

/*
 * Checks mounts whose flags the kernel has locked, because they come from outside of the user
 * namespace: such flags must stay as they are, and an option that would clear one must be an error.
 */
static void locked_init(struct box *b)
{
	static struct spec_mount keep, clear;
	struct step s = {.kind = STEP_OPEN_SOURCE, .open = {.path = BOX "/locked"}};

	box_attach(b);
	keep = box_entry(b, "bind", "/keep", OPTS("bind", "nosuid"));
	clear = box_entry(b, "bind", "/clear", OPTS("bind", "rw"));
	/*
	 * The container's first process copies the mounts itself, because an ordinary user's host
	 * process may not do so.
	 */
	s.slot = 1;
	EXPECT(step_open(&b->c, &s) >= 0);
	s.slot = 2;
	EXPECT(step_open(&b->c, &s) >= 0);
	EXPECT(box_mount(b, &keep, 1) >= 0);
	EXPECT(has(box_mountinfo(ROOTFS "/keep"), " ro,nosuid,nodev,noatime "));
	EXPECT_ERR(box_mount(b, &clear, 2), EPERM, "\"rw\"");
	/*
	 * A bind mount without "rbind" must fail: it would uncover what locked mounts beneath it
	 * hide.
	 */
	s.open.path = BOX "/src";
	EXPECT_ERR(open_tree_copy(&s, -EBADF), EINVAL, "rbind");
}

BOX_TEST(locked_flags, .prepare = bind_prepare, .init = locked_init, .flags = CLONE_NEWUSER)

/* Tests propagation: by default mounts go from the host into the container, and not back. */
static const char *const shared_opts[] = {"bind", "rshared", NULL};
static const char *const private_opts[] = {"bind", "rprivate", NULL};

static void propagation_prepare(struct box *b)
{
	EXPECT(mkdir(BOX "/vol", 0755) == 0);
	EXPECT(mount("vol", BOX "/vol", "tmpfs", 0, NULL) == 0);
	EXPECT(mkdir(BOX "/vol/in", 0755) == 0 && mkdir(BOX "/vol/out", 0755) == 0);
	EXPECT(mount(NULL, BOX "/vol", NULL, MS_SHARED, NULL) == 0);
	EXPECT(mount(NULL, BOX, NULL, MS_SHARED, NULL) == 0);
}

static void propagation_host(struct box *b)
{
	static const struct spec_mount by_default = {.bind = true};

	binds[0] = by_default;
	binds[0].destination = "/slave";
	binds[1] = box_entry(b, "bind", "/shared", shared_opts);
	binds[2] = box_entry(b, "bind", "/private", private_opts);
	for (int i = 0; i < 3; i++)
		box_open(b, BOX "/vol", &binds[i]);
}

static void propagation_init(struct box *b)
{
	box_attach(b);
	for (int i = 0; i < 3; i++)
		EXPECT(box_mount(b, &binds[i], 1 + i) >= 0);
	EXPECT(has(box_mountinfo(ROOTFS "/slave"), "master:") &&
		!has(box_mountinfo(ROOTFS "/slave"), "shared:"));
	EXPECT(has(box_mountinfo(ROOTFS "/shared"), "shared:") &&
		!has(box_mountinfo(ROOTFS "/shared"), "master:"));
	EXPECT(!has(box_mountinfo(ROOTFS "/private"), "master:") &&
		!has(box_mountinfo(ROOTFS "/private"), "shared:"));
	EXPECT(!has(box_mountinfo(ROOTFS), "shared:"));
	EXPECT(box_new(b, "tmpfs", "/slave/in", OPTS("size=4k")) >= 0);
	EXPECT(box_new(b, "tmpfs", "/shared/out", OPTS("size=8k")) >= 0);
	EXPECT(box_new(b, "tmpfs", "/etc", NULL) >= 0);
	EXPECT(box_new(b, "tmpfs", "/own", OPTS("rshared")) >= 0);
	EXPECT(has(box_mountinfo(ROOTFS "/own"), "shared:"));
	EXPECT(box_number(b, step_pivot, 0) >= 0);
}

static void propagation_check(struct box *b)
{
	EXPECT(!*box_mountinfo(BOX "/vol/in"));
	EXPECT(has(box_mountinfo(BOX "/vol/out"), "size=8k"));
	EXPECT(!*box_mountinfo(ROOTFS) && !*box_mountinfo(ROOTFS "/etc"));
	/* The host must still have its mounts, although the container has changed its own root. */
	EXPECT(*box_mountinfo(BOX) && *box_mountinfo(BOX "/vol"));
}

BOX_TEST(propagation, .prepare = propagation_prepare, .host = propagation_host,
	.init = propagation_init, .check = propagation_check)
BOX_TEST(propagation_shared_root, .prepare = propagation_prepare, .host = propagation_host,
	.init = propagation_init, .check = propagation_check,
	.root_propagation = MS_SHARED | MS_REC)

/* Tests tmpcopyup (copy what the tmpfs covers), also if the tmpfs becomes read-only afterwards. */
static void copyup_prepare(struct box *b)
{
	struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 2000}};

	EXPECT(mkdir(ROOTFS "/var", 0750) == 0 && mkdir(ROOTFS "/var/dir", 0711) == 0);
	EXPECT(chown(ROOTFS "/var", 3, 4) == 0);
	box_write(ROOTFS "/var/dir/file", "content");
	EXPECT(chown(ROOTFS "/var/dir/file", 5, 6) == 0 &&
		chmod(ROOTFS "/var/dir/file", 04755) == 0);
	EXPECT(setxattr(ROOTFS "/var/dir/file", "trusted.t", "v", 1, 0) == 0);
	EXPECT(utimensat(AT_FDCWD, ROOTFS "/var/dir/file", times, 0) == 0);
	EXPECT(symlink(HOSTDIR, ROOTFS "/var/link") == 0 && mkfifo(ROOTFS "/var/fifo", 0600) == 0);
	EXPECT(lchown(ROOTFS "/var/link", 7, 8) == 0);
	box_write(HOSTDIR "/secret", "secret");
}

static void copyup_init(struct box *b)
{
	struct stat st;
	char value[8];

	box_attach(b);
	EXPECT(box_new(b, "tmpfs", "/var", OPTS("tmpcopyup", "ro", "size=1m")) >= 0);
	EXPECT(stat(ROOTFS "/var", &st) == 0 && (st.st_mode & 07777) == 0750);
	EXPECT(st.st_uid == 0 && st.st_gid == 0);
	EXPECT(stat(ROOTFS "/var/dir", &st) == 0 && (st.st_mode & 07777) == 0711);
	EXPECT(stat(ROOTFS "/var/dir/file", &st) == 0 && (st.st_mode & 07777) == 04755);
	EXPECT(st.st_uid == 5 && st.st_gid == 6 && st.st_mtime == 2000);
	EXPECT(box_has(ROOTFS "/var/dir/file", "content"));
	EXPECT(getxattr(ROOTFS "/var/dir/file", "trusted.t", value, 8) == 1 && value[0] == 'v');
	EXPECT(lstat(ROOTFS "/var/link", &st) == 0 && S_ISLNK(st.st_mode) && st.st_uid == 7);
	EXPECT(lstat(ROOTFS "/var/fifo", &st) == 0 && S_ISFIFO(st.st_mode));
	/* The tmpfs must become read-only only after the copied files are in it. */
	EXPECT(box_new(b, "tmpfs", "/var/later", NULL) >= 0);
	/* tmpcopyup must keep holes, so a file of 1 MiB that is one hole fits in 64 KiB. */
	box_write(ROOTFS "/tmp/big", "x");
	EXPECT(truncate(ROOTFS "/tmp/big", 1 << 20) == 0);
	EXPECT(mkdir(ROOTFS "/tmp/hole", 0755) == 0 &&
		rename(ROOTFS "/tmp/big", ROOTFS "/tmp/hole/big") == 0);
	EXPECT(box_new(b, "tmpfs", "/tmp/hole", OPTS("tmpcopyup", "size=64k")) >= 0);
	EXPECT(stat(ROOTFS "/tmp/hole/big", &st) == 0 && st.st_size == 1 << 20 &&
		st.st_blocks <= 8);
	EXPECT(umount2(ROOTFS "/tmp/hole", MNT_DETACH) == 0);
	static const char full[256 << 10] = {1};
	int big = open(ROOTFS "/tmp/big", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	EXPECT(big >= 0 && write(big, full, sizeof(full)) == sizeof(full) && close(big) == 0);
	EXPECT_ERR(box_new(b, "tmpfs", "/tmp", OPTS("tmpcopyup", "size=64k")), ENOSPC, "size=");
	EXPECT(!has(box_mountinfo(ROOTFS "/tmp"), "tmpfs"));
	EXPECT_ERR(box_new(b, "proc", "/proc", OPTS("tmpcopyup")), EINVAL, "tmpfs");
	EXPECT(box_number(b, step_pivot, 0) >= 0);
	EXPECT(mkdir("/var/x", 0755) < 0 && errno == EROFS);
	EXPECT(mkdir("/var/later/x", 0755) == 0);
}

BOX_TEST(copyup, .prepare = copyup_prepare, .init = copyup_init)

/*
 * Checks that a tmpfs gets the mode of the directory that it covers, that errors name the option,
 * and that options which are too long for fsconfig(2) go through mount(2).
 */
static void options_prepare(struct box *b)
{
	EXPECT(mkdir(ROOTFS "/sticky", 01731) == 0 && chmod(ROOTFS "/sticky", 01731) == 0);
	EXPECT(mkdir(ROOTFS "/both", 0700) == 0 && mkdir(BOX "/up", 0755) == 0);
	EXPECT(mkdir(BOX "/work", 0755) == 0 && mkdir(BOX "/low,er", 0755) == 0);
	box_write(BOX "/low,er/x", "lower");
}

static void options_init(struct box *b)
{
	char lower[600] = "lowerdir=" BOX "/low\\,er", under[300], dir[64];
	struct stat st;

	box_attach(b);
	EXPECT(box_new(b, "tmpfs", "/sticky", NULL) >= 0);
	EXPECT(stat(ROOTFS "/sticky", &st) == 0 && (st.st_mode & 07777) == 01731);
	EXPECT(box_new(b, "tmpfs", "/sticky", OPTS("size=8k,mode=700", "uid=9")) >= 0);
	EXPECT(stat(ROOTFS "/sticky", &st) == 0 && (st.st_mode & 07777) == 0700 && st.st_uid == 9);
	EXPECT(box_new(b, "tmpfs", "/fresh", NULL) >= 0);
	EXPECT(stat(ROOTFS "/fresh", &st) == 0 && (st.st_mode & 07777) == 01777);
	EXPECT(box_new(b, "tmpfs", "/s", OPTS("sync", "nosymfollow", "rro")) >= 0);
	EXPECT(has(box_mountinfo(ROOTFS "/s"), " ro,relatime,nosymfollow ") &&
		has(box_mountinfo(ROOTFS "/s"), "rw,sync"));
	EXPECT_ERR(box_new(b, "tmpfs", "/e", OPTS("size=many")), EINVAL, "\"size=many\"");
	EXPECT_ERR(box_new(b, "tmpfs", "/e", OPTS("frob")), EINVAL, "\"frob\"");
	EXPECT_ERR(box_new(b, "nofs", "/e", NULL), ENODEV, "no file system \"nofs\"");
	EXPECT_ERR(box_new(b, NULL, "/e", NULL), EINVAL, "type: missing");
	EXPECT_ERR(box_new(b, "tmpfs", "/e", OPTS("idmap")), EINVAL, "bind");
	box_write(ROOTFS "/file", "");
	EXPECT_ERR(box_new(b, "tmpfs", "/file", NULL), ENOTDIR, "/file is not a directory");
	EXPECT_ERR(box_new(b, "tmpfs", "/file/x", NULL), ENOTDIR, "/file/x");

	EXPECT(getcwd(under, sizeof(under)) != NULL);
	for (int i = 0; strlen(lower) < 400; i++) {
		snprintf(dir, sizeof(dir), BOX "/a-long-name-for-a-lower-layer-%d", i);
		EXPECT(mkdir(dir, 0755) == 0);
		strcat(strcat(lower, ":"), dir);
	}
	EXPECT(box_new(b, "overlay", "/both",
		       OPTS(lower, "upperdir=" BOX "/up", "workdir=" BOX "/work", "nodev")) >= 0);
	EXPECT(box_has(ROOTFS "/both/x", "lower"));
	EXPECT(has(box_mountinfo(ROOTFS "/both"), " rw,nodev,relatime ") &&
		has(box_mountinfo(ROOTFS "/both"), "- overlay"));
	EXPECT(!box_has("/proc/self/mountinfo", "/both/m "));
	char now[300];
	EXPECT(getcwd(now, sizeof(now)) && streq(now, under));
	EXPECT_ERR(box_new(b, "overlay", "/both", OPTS(lower, "upperdir=/nowhere", "workdir=/no")),
		ENOENT, "does not exist");
	EXPECT(!strcasestr(err_msg(), "no such file"));
}

BOX_TEST(options, .prepare = options_prepare, .init = options_init)

/* Tests id-mapped bind mounts: the owner of a file on disk, and its owner in the container. */
static const char *const idmap_opts[] = {"bind", "idmap", NULL};
static bool idmapped;

static void idmap_host(struct box *b)
{
	static const struct spec_id_map shift = {.container_id = 0, .host_id = 5000, .size = 100};
	struct spec_id_maps maps = {.v = &shift, .n = 1};
	struct step s = {.kind = STEP_OPEN_SOURCE};

	binds[0] = box_entry(b, "bind", "/mapped", idmap_opts);
	s.open.path = BOX "/file";
	s.open.mount = &binds[0];
	s.open.idmap_uid = maps;
	EXPECT_ERR(open_tree_copy(&s, -EBADF), EINVAL, "gidMappings");
	s.open.idmap_gid = maps;
	s.open.path = "/proc/version";
	EXPECT_ERR(open_tree_copy(&s, -EBADF), EINVAL, "no idmapped mounts");
	s.open.path = BOX "/file";
	int fd = open_tree_copy(&s, -EBADF);
	idmapped = fd >= 0;
	/* Before Linux 6.3 tmpfs does not support id-mapped mounts, which must be an error. */
	if (!idmapped)
		EXPECT_ERR(open_tree_copy(&s, -EBADF), EINVAL, "no idmapped mounts");
	b->slots[b->nslots++] = fd;
	EXPECT(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

static void idmap_init(struct box *b)
{
	struct stat st;

	box_attach(b);
	if (!idmapped)
		return;
	EXPECT(box_mount(b, &binds[0], 1) >= 0);
	EXPECT(stat(ROOTFS "/mapped", &st) == 0 && st.st_uid == 5000 && st.st_gid == 5000);
}

BOX_TEST(idmap, .prepare = bind_prepare, .host = idmap_host, .init = idmap_init)

/* Errors about missing sources must avoid the words that engines read as "command not found". */
static void sources_host(struct box *b)
{
	struct step s = {
		.kind = STEP_OPEN_SOURCE, .open = {.path = BOX "/nil", .mount = &binds[0]}};

	EXPECT_ERR(open_tree_copy(&s, -EBADF), ENOENT,
		"source: " BOX "/nil does not exist on the host");
	EXPECT(!strcasestr(err_msg(), "no such file"));
	s.kind = STEP_OPEN_ROOT;
	EXPECT_ERR(open_tree_copy(&s, -EBADF), ENOENT, BOX "/nil does not exist");
	s.open.path = BOX "/file";
	EXPECT_ERR(open_tree_copy(&s, -EBADF), ENOTDIR, "not a directory");
}

BOX_TEST(sources, .prepare = bind_prepare, .host = sources_host, .init = box_attach)

/* With --no-pivot the new root is moved over the old one, and must hide the host's mounts. */
static void no_pivot_init(struct box *b)
{
	box_attach(b);
	EXPECT(box_new(b, "proc", "/proc", NULL) >= 0);
	EXPECT(box_number(b, step_pivot, 1) >= 0);
	EXPECT(access("/etc", F_OK) == 0 && access("/usr", F_OK) < 0);
	EXPECT(!box_has("/proc/self/mountinfo", "sysfs"));
	EXPECT(box_number(b, step_readonly_root, 0) >= 0);
	EXPECT(mkdir("/x", 0755) < 0 && errno == EROFS);
}

BOX_TEST(no_pivot, .init = no_pivot_init, .flags = CLONE_NEWPID)

/*
 * The container's root file system must be found even if the container's root user may not search
 * the directories above it.
 */
static void unreachable_host(struct box *b)
{
	EXPECT(chmod(BOX, 0700) == 0);
}

static void unreachable_init(struct box *b)
{
	EXPECT(access(ROOTFS, F_OK) < 0 && errno == EACCES);
	box_attach(b);
	EXPECT(b->c.root_path == NULL);
	EXPECT(box_new(b, "tmpfs", "/etc", OPTS("size=4k")) >= 0);
	EXPECT(box_new(b, "sysfs", "/sys", NULL) >= 0);
	EXPECT_ERR(box_number(b, step_pivot, 1), EACCES, "--no-pivot");
	EXPECT(box_number(b, step_pivot, 0) >= 0);
	EXPECT(access("/sys/class", F_OK) == 0 && access("/usr", F_OK) < 0);
}

BOX_TEST(unreachable_root, .host = unreachable_host, .init = unreachable_init,
	.flags = CLONE_NEWUSER)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_clean_path),
		cmocka_unit_test(test_ordinary),
		cmocka_unit_test(test_ordinary_userns),
		cmocka_unit_test(test_userns_limits),
		cmocka_unit_test(test_binds),
		cmocka_unit_test(test_locked_flags),
		cmocka_unit_test(test_propagation),
		cmocka_unit_test(test_propagation_shared_root),
		cmocka_unit_test(test_copyup),
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_idmap),
		cmocka_unit_test(test_sources),
		cmocka_unit_test(test_no_pivot),
		cmocka_unit_test(test_unreachable_root),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
