/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the virtio-fs server of a container with a user namespace, in its jail. The guest is
 * hostile: it sends requests as any user, and its kernel checks no permission. The host's kernel
 * must keep the server to the mapped ids.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "base/userns.h"
#include "unit/rig/child.h"
#include "unit/rig/vmfs_front.h"
#include "vm/fs/vmfs.h"

#define FIRST 100000U /* first id of the host to which the container's user namespace is mapped */
#define MAP "100000 100000 65536\n"
#define STRAY 200 /* a descriptor of a file of the host that the server inherits */
#define BIT(n) (UINT64_C(1) << (n))

_Noreturn static void serve(const struct front *f, int sock, bool confined)
{
	struct vmfs_config c = {.sock = sock, .devices = true, .seal = -EBADF, .proc = -EBADF};

	CHECK(dup2(open("/etc", O_PATH | O_DIRECTORY), STRAY) == STRAY);
	CHECK(unshare(CLONE_NEWNS) == 0);
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	c.root = open(f->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (confined) {
		c.userns = userns_open(MAP, MAP);
		CHECK(c.userns > 0);
		c.uid = c.gid = FIRST;
	}
	CHECK(vmfs_jail(&c) == 0);
	_exit(vmfs_serve(&c) == 0 ? 0 : 1);
}

static void make_file(const char *dir, const char *name, mode_t mode, uid_t owner)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && write(fd, "content", 7) == 7);
	CHECK(fchown(fd, owner, owner) == 0 && fchmod(fd, mode) == 0 && close(fd) == 0);
}

static void begin(struct front *f, bool confined)
{
	int server = front_open(f);
	char path[128];

	strcpy(f->dir, "/tmp/vmfs-test.XXXXXX");
	CHECK(mkdtemp(f->dir) && chmod(f->dir, 0755) == 0);
	make_file(f->dir, "root", 0600, 0);
	make_file(f->dir, "public", 0644, 0);
	make_file(f->dir, "mapped", 0600, FIRST + 5);
	snprintf(path, sizeof(path), "%s/open", f->dir);
	CHECK(mkdir(path, 0700) == 0 && chmod(path, 01777) == 0);
	snprintf(path, sizeof(path), "%s/private", f->dir);
	CHECK(mkdir(path, 0700) == 0);
	make_file(path, "inside", 0644, 0);
	f->server = fork();
	CHECK(f->server >= 0);
	if (f->server == 0) {
		close(f->sock);
		munmap(f->ram, MEMORY);
		serve(f, server, confined);
	}
	close(server);
	front_start_queue(f);
	front_fuse_init(f);
}

static uint64_t look(struct front *f, uint64_t dir, const char *name)
{
	if (front_name(f, FUSE_LOOKUP, dir, name) != 0)
		fprintf(stderr, "%s:\n", name);
	CHECK(((const struct fuse_out_header *)(f->ram + DATA_OUT))->error == 0);
	return front_entry(f);
}

static int open_file(struct front *f, const char *name, uint32_t flags)
{
	struct fuse_open_in in = {.flags = flags};

	return front_fuse(f, FUSE_OPEN, look(f, 1, name), &in, sizeof(in), NULL, 0);
}

static int set(struct front *f, const char *name, struct fuse_setattr_in in)
{
	return front_fuse(f, FUSE_SETATTR, look(f, 1, name), &in, sizeof(in), NULL, 0);
}

static int create(struct front *f, uint64_t dir, const char *name, uint32_t owner)
{
	struct fuse_create_in in = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 04755};

	f->uid = f->gid = owner;
	int r = front_fuse(f, FUSE_CREATE, dir, &in, sizeof(in), name, strlen(name) + 1);
	f->uid = f->gid = 0;
	return r;
}

/*
 * Returns the owner and the mode of a file as the host sees them. The owner is 77 if there is no
 * such file.
 */
static struct stat seen(const struct front *f, const char *name)
{
	struct stat st = {.st_uid = 77};
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	(void)!lstat(path, &st);
	return st;
}

static void run_reading(void)
{
	struct front f;

	begin(&f, true);
	CHECK(open_file(&f, "root", O_RDONLY) == -EACCES);
	CHECK(open_file(&f, "root", O_WRONLY) == -EACCES);
	CHECK(open_file(&f, "public", O_RDONLY) == 0);
	CHECK(open_file(&f, "public", O_RDWR) == -EACCES);
	CHECK(open_file(&f, "public", O_RDONLY | O_TRUNC) == -EACCES);
	CHECK(open_file(&f, "mapped", O_RDWR) == 0);
	CHECK(front_name(&f, FUSE_LOOKUP, look(&f, 1, "private"), "inside") == -EACCES);
	CHECK(front_end(&f) == 0);
}

static void run_attributes(void)
{
	struct fuse_setattr_in mode = {.valid = FATTR_MODE, .mode = 06777},
			       owner = {.valid = FATTR_UID | FATTR_GID, .uid = FIRST, .gid = FIRST},
			       root = {.valid = FATTR_UID}, size = {.valid = FATTR_SIZE};
	struct front f;

	begin(&f, true);
	CHECK(set(&f, "root", mode) == -EPERM);
	CHECK(set(&f, "root", owner) == -EPERM);
	CHECK(set(&f, "root", size) == -EACCES);
	CHECK(set(&f, "mapped", root) == -EINVAL);
	CHECK(set(&f, "mapped", owner) == 0 && seen(&f, "mapped").st_uid == FIRST);
	CHECK(set(&f, "mapped", mode) == 0 && set(&f, "mapped", size) == 0);
	CHECK(seen(&f, "root").st_mode == (S_IFREG | 0600) && seen(&f, "root").st_size == 7);
	CHECK(front_end(&f) == 0);
}

static void run_names(void)
{
	struct fuse_mknod_in null = {.mode = S_IFCHR | 0666, .rdev = 1 << 8 | 3};
	struct fuse_link_in link_in = {0};
	struct front f;

	begin(&f, true);
	uint64_t dir = look(&f, 1, "open");
	/*
	 * The guest must not be able to make a file as root, nor to make a file in a directory that
	 * belongs to root.
	 */
	CHECK(create(&f, dir, "as-root", 0) == -EPERM);
	CHECK(create(&f, dir, "as-none", 7) == -EPERM);
	CHECK(create(&f, dir, "as-mapped", FIRST + 9) == 0);
	CHECK(seen(&f, "open/as-root").st_uid == 77);
	CHECK(seen(&f, "open/as-mapped").st_uid == FIRST + 9);
	CHECK(create(&f, 1, "in-root", FIRST) == -EACCES);
	CHECK(front_name(&f, FUSE_UNLINK, 1, "root") == -EACCES);
	/*
	 * The system call filter of the server allows device nodes to be made, but the kernel must
	 * refuse them, because the server is in a user namespace.
	 */
	CHECK(front_fuse(&f, FUSE_MKNOD, dir, &null, sizeof(null), "null", 5) == -EPERM);
	/* The guest must be able to make a second link to a file of a user whose id is mapped. */
	link_in.oldnodeid = look(&f, 1, "mapped");
	CHECK(front_fuse(&f, FUSE_LINK, dir, &link_in, sizeof(link_in), "second", 7) == 0);
	CHECK(front_end(&f) == 0);
}

/* Checks that the server of a container without a user namespace serves every user. */
static void run_unconfined(void)
{
	struct front f;

	begin(&f, false);
	CHECK(open_file(&f, "root", O_RDWR) == 0);
	CHECK(create(&f, look(&f, 1, "private"), "as-root", 0) == 0);
	CHECK(create(&f, 1, "as-user", 1000) == 0 && seen(&f, "as-user").st_uid == 1000);
	CHECK(front_end(&f) == 0);
}

static void expect_other_namespace(const struct front *f, const char *name)
{
	struct stat ours, theirs;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	CHECK(stat(path, &ours) == 0);
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)f->server, name);
	CHECK(stat(path, &theirs) == 0 && theirs.st_ino != ours.st_ino);
}

/* Checks what the server, which a guest may have taken over, can still do. */
static void run_jail(void)
{
	const uint64_t caps = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) |
			      BIT(CAP_FOWNER) | BIT(CAP_FSETID) | BIT(CAP_SETUID) |
			      BIT(CAP_SETGID) | BIT(CAP_MKNOD) | BIT(CAP_SETFCAP);
	static const char *const none[] = {"CapBnd:", "CapInh:", "CapAmb:"};
	static const char *const other[] = {"mnt", "net", "ipc", "uts"};
	struct stat st;
	struct front f;
	char path[64];

	begin(&f, false);
	CHECK(status_number(f.server, "CapEff:") == caps);
	CHECK(status_number(f.server, "CapPrm:") == caps);
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		CHECK(status_number(f.server, none[i]) == 0);
	CHECK(status_number(f.server, "NoNewPrivs:") == 1);
	CHECK(status_number(f.server, "\nSeccomp:") == 2);
	for (size_t i = 0; i < ARRAY_SIZE(other); i++)
		expect_other_namespace(&f, other[i]);
	/* The root of the server is the share, and it has none of this process's descriptors. */
	snprintf(path, sizeof(path), "/proc/%d/root/public", (int)f.server);
	CHECK(stat(path, &st) == 0);
	snprintf(path, sizeof(path), "/proc/%d/root/etc", (int)f.server);
	CHECK(stat(path, &st) < 0);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)f.server, STRAY);
	CHECK(lstat(path, &st) < 0);
	CHECK(front_end(&f) == 0);
}

ROOT_CHILD_TEST(reading)
ROOT_CHILD_TEST(attributes)
ROOT_CHILD_TEST(names)
ROOT_CHILD_TEST(unconfined)
ROOT_CHILD_TEST(jail)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reading),
		cmocka_unit_test(test_attributes),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_unconfined),
		cmocka_unit_test(test_jail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
