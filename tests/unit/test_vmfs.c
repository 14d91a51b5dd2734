/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests the virtio-fs server with well-formed and hostile FUSE requests. The server must answer
 * each request as the protocol demands.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/str.h"
#include "unit/rig/child.h"
#include "unit/rig/vmfs_files.h"
#include "unit/rig/vmfs_front.h"

static void run_names(void)
{
	static const char *const bad[] = {"", ".", "..", "a/b", "/etc", "../x", "a/", "/"};
	struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	struct fuse_rename_in rename_in = {.newdir = 1};
	char longest[300];
	struct front f;

	front_ready(&f);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		size_t len = strlen(bad[i]) + 1;
		char two[64];

		CHECK(front_name(&f, FUSE_LOOKUP, 1, bad[i]) == -EINVAL);
		CHECK(front_name(&f, FUSE_UNLINK, 1, bad[i]) == -EINVAL);
		CHECK(front_name(&f, FUSE_RMDIR, 1, bad[i]) == -EINVAL);
		CHECK(front_make(&f, bad[i], S_IFREG | 0600, 0) == -EINVAL);
		CHECK(front_fuse(&f, FUSE_MKDIR, 1, &mkdir_in, sizeof(mkdir_in), bad[i], len) ==
			-EINVAL);
		/*
		 * The test also uses the bad name in requests that have two names: as the new name
		 * of RENAME, and as the name of a new symbolic link.
		 */
		int n = snprintf(two, sizeof(two), "x%c%s", 0, bad[i]) + 1;
		CHECK(front_fuse(&f, FUSE_RENAME, 1, &rename_in, sizeof(rename_in), two,
			      (size_t)n) == -EINVAL);
		n = snprintf(two, sizeof(two), "%s%ctarget", bad[i], 0) + 1;
		CHECK(front_fuse(&f, FUSE_SYMLINK, 1, NULL, 0, two, (size_t)n) == -EINVAL);
	}
	/*
	 * The server must refuse a name that has no NUL at its end or a NUL in the middle, and a
	 * request without a name.
	 */
	CHECK(front_fuse(&f, FUSE_LOOKUP, 1, NULL, 0, "abc", 3) == -EINVAL);
	CHECK(front_fuse(&f, FUSE_LOOKUP, 1, NULL, 0, "a\0b", 4) == -EINVAL);
	CHECK(front_fuse(&f, FUSE_LOOKUP, 1, NULL, 0, NULL, 0) == -EINVAL);
	CHECK(front_fuse(&f, FUSE_SYMLINK, 1, NULL, 0, "only", 5) == -EINVAL);
	memset(longest, 'x', sizeof(longest));
	longest[256] = 0;
	CHECK(front_name(&f, FUSE_LOOKUP, 1, longest) == -ENAMETOOLONG);
	longest[255] = 0;
	CHECK(front_name(&f, FUSE_LOOKUP, 1, longest) == -ENOENT);
	CHECK(front_end(&f) == ENDED);
}

/*
 * Checks that the server never follows a symbolic link that leads out of the share, whatever
 * request uses the link.
 */
static void run_links_out(void)
{
	struct fuse_open_in open_in = {.flags = O_RDWR};
	struct fuse_getattr_in getattr_in = {0};
	struct fuse_setattr_in chmod_in = {.valid = FATTR_MODE, .mode = 0777};
	struct front f;
	char path[128];

	front_ready(&f);
	CHECK(front_fuse(&f, FUSE_SYMLINK, 1, NULL, 0, "out\0/etc", 9) == 0);
	uint64_t node = front_entry(&f);
	CHECK(S_ISLNK(((const struct fuse_entry_out *)front_reply(&f))->attr.mode));
	CHECK(front_fuse(&f, FUSE_GETATTR, node, &getattr_in, sizeof(getattr_in), NULL, 0) == 0);
	CHECK(S_ISLNK(((const struct fuse_attr_out *)front_reply(&f))->attr.mode));
	CHECK(front_name(&f, FUSE_LOOKUP, node, "passwd") == -ENOTDIR);
	CHECK(front_name(&f, FUSE_UNLINK, node, "passwd") == -ENOTDIR);
	CHECK(front_fuse(&f, FUSE_OPENDIR, node, &open_in, sizeof(open_in), NULL, 0) == -ENOTDIR);
	CHECK(front_fuse(&f, FUSE_OPEN, node, &open_in, sizeof(open_in), NULL, 0) == -ELOOP);
	struct stat before, after;
	CHECK(stat("/etc", &before) == 0);
	CHECK(front_fuse(&f, FUSE_SETATTR, node, &chmod_in, sizeof(chmod_in), NULL, 0) ==
		-EOPNOTSUPP);
	CHECK(stat("/etc", &after) == 0 && before.st_mode == after.st_mode);
	/*
	 * CREATE without O_EXCL must not follow a symbolic link that has the name of the new file.
	 */
	struct fuse_create_in create_in = {
		.flags = O_RDWR | O_CREAT | O_TRUNC, .mode = S_IFREG | 0600};
	snprintf(path, sizeof(path), "%s/victim", f.dir);
	CHECK(symlink("/tmp/vmfs-test-victim", path) == 0);
	CHECK(front_fuse(&f, FUSE_CREATE, 1, &create_in, sizeof(create_in), "victim", 7) == -ELOOP);
	CHECK(access("/tmp/vmfs-test-victim", F_OK) < 0);
	CHECK(front_end(&f) == ENDED);
}

static void run_devices(void)
{
	struct fuse_open_in in = {.flags = O_RDONLY};
	struct statfs fs;
	struct front f;
	char path[128];

	front_ready(&f);
	CHECK(front_make(&f, "null", S_IFCHR | 0666, 1 << 8 | 3) == -EPERM);
	CHECK(front_make(&f, "disk", S_IFBLK | 0666, 8 << 8) == -EPERM);
	CHECK(front_make(&f, "dir", S_IFDIR | 0777, 0) == -EINVAL);
	CHECK(front_make(&f, "link", S_IFLNK | 0777, 0) == -EINVAL);
	/* Overlayfs, on which the test host keeps /tmp, takes no whiteout from anyone. */
	CHECK(statfs(f.dir, &fs) == 0);
	CHECK(front_make(&f, "whiteout", S_IFCHR, 0) ==
		(fs.f_type == OVERLAYFS_SUPER_MAGIC ? -EPERM : 0));
	/*
	 * The server must not open a FIFO, which would block the server, nor a device, which would
	 * act on the host.
	 */
	CHECK(front_make(&f, "fifo", S_IFIFO | 0600, 0) == 0);
	CHECK(front_fuse(&f, FUSE_OPEN, front_entry(&f), &in, sizeof(in), NULL, 0) == -EINVAL);
	snprintf(path, sizeof(path), "%s/zero", f.dir);
	CHECK(mknod(path, S_IFCHR | 0666, makedev(1, 5)) == 0);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "zero") == 0);
	CHECK(front_fuse(&f, FUSE_OPEN, front_entry(&f), &in, sizeof(in), NULL, 0) == -EINVAL);
	CHECK(front_end(&f) == ENDED);
}

static void run_ids(void)
{
	static const uint64_t bad[] = {0, 2, 99, UINT32_MAX, UINT64_C(1) << 32 | 1, UINT64_MAX};
	struct fuse_getattr_in getattr_in = {0};
	struct fuse_forget_in forget_in = {.nlookup = UINT64_MAX};
	struct fuse_read_in read_in = {.size = 10};
	struct fuse_write_in write_in = {.size = 4};
	struct fuse_release_in release_in = {0};
	uint64_t a, b;
	struct front f;

	front_ready(&f);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK(front_fuse(&f, FUSE_GETATTR, bad[i], &getattr_in, sizeof(getattr_in), NULL,
			      0) == -ESTALE);
		CHECK(front_name(&f, FUSE_LOOKUP, bad[i], "x") == -ESTALE);
		CHECK(front_fuse(&f, FUSE_FORGET, bad[i], &forget_in, sizeof(forget_in), NULL, 0) ==
			INT_MIN);
	}
	/* The root node must stay, however often the guest forgets it. */
	CHECK(front_fuse(&f, FUSE_FORGET, 1, &forget_in, sizeof(forget_in), NULL, 0) == INT_MIN);
	CHECK(front_fuse(&f, FUSE_GETATTR, 1, &getattr_in, sizeof(getattr_in), NULL, 0) == 0);
	uint64_t fh = front_create(&f, "a", &a), other = front_create(&f, "b", &b);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		read_in.fh = bad[i] == 2 ? 77 : bad[i];
		CHECK(front_fuse(&f, FUSE_READ, a, &read_in, sizeof(read_in), NULL, 0) == -EBADF);
		CHECK(front_fuse(&f, FUSE_READDIR, 1, &read_in, sizeof(read_in), NULL, 0) ==
			-EBADF);
	}
	/*
	 * The server must refuse a file handle in a request that names another node than the
	 * handle's. It must also refuse the handle of a file in a request for a directory.
	 */
	read_in.fh = other;
	CHECK(front_fuse(&f, FUSE_READ, a, &read_in, sizeof(read_in), NULL, 0) == -EBADF);
	CHECK(front_fuse(&f, FUSE_READDIR, a, &read_in, sizeof(read_in), NULL, 0) == -ENOTDIR);
	/*
	 * A node that the guest has forgotten must live as long as the guest has a file of it open.
	 * After that the server must never use the node's number again.
	 */
	CHECK(front_fuse(&f, FUSE_FORGET, a, &forget_in, sizeof(forget_in), NULL, 0) == INT_MIN);
	write_in.fh = fh;
	CHECK(front_fuse(&f, FUSE_WRITE, a, &write_in, sizeof(write_in), "data", 4) == 0);
	release_in.fh = fh;
	CHECK(front_fuse(&f, FUSE_RELEASE, a, &release_in, sizeof(release_in), NULL, 0) == 0);
	CHECK(front_fuse(&f, FUSE_RELEASE, a, &release_in, sizeof(release_in), NULL, 0) == -ESTALE);
	CHECK(front_fuse(&f, FUSE_GETATTR, a, &getattr_in, sizeof(getattr_in), NULL, 0) == -ESTALE);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "a") == 0 && front_entry(&f) != a);
	CHECK(((const struct fuse_entry_out *)front_reply(&f))->attr.size == 4);
	CHECK(front_end(&f) == ENDED);
}

static void run_lengths(void)
{
	static const uint32_t ops[] = {FUSE_GETATTR, FUSE_SETATTR, FUSE_MKNOD, FUSE_RENAME,
		FUSE_OPEN, FUSE_READ, FUSE_WRITE, FUSE_INIT, FUSE_SETXATTR, FUSE_CREATE, FUSE_SETLK,
		FUSE_LSEEK, FUSE_FALLOCATE, FUSE_COPY_FILE_RANGE, FUSE_READDIRPLUS, FUSE_RENAME2};
	struct fuse_write_in write_in = {.size = 1 << 20};
	struct fuse_read_in read_in = {.size = UINT32_MAX, .offset = UINT64_MAX};
	static char big[100000];
	uint64_t node;
	struct front f;

	front_ready(&f);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		CHECK(front_fuse(&f, ops[i], 1, "xxx", 4, NULL, 0) == -EINVAL);
	CHECK(front_fuse(&f, 4000000000U, 1, NULL, 0, NULL, 0) == -ENOSYS);
	CHECK(front_fuse(&f, FUSE_IOCTL, 1, big, 40, NULL, 0) == -ENOTTY);
	CHECK(front_fuse(&f, FUSE_LOOKUP, 1, NULL, 0, big, sizeof(big)) == -E2BIG);
	/* The server must refuse a WRITE whose header announces more data than the request has. */
	write_in.fh = read_in.fh = front_create(&f, "file", &node);
	CHECK(front_fuse(&f, FUSE_WRITE, node, &write_in, sizeof(write_in), "data", 4) == -EINVAL);
	write_in.size = UINT32_MAX;
	CHECK(front_fuse(&f, FUSE_WRITE, node, &write_in, sizeof(write_in), "data", 4) == -EINVAL);
	/*
	 * The server must refuse a READ for more data than the answer has room for, and a READ at
	 * an impossible offset.
	 */
	CHECK(front_fuse(&f, FUSE_READ, node, &read_in, sizeof(read_in), NULL, 0) == -EINVAL);
	read_in.size = 100;
	CHECK(front_fuse(&f, FUSE_READ, node, &read_in, sizeof(read_in), NULL, 0) == -EINVAL);
	/*
	 * The server must refuse a request whose header says a length that is too large or too
	 * small.
	 */
	struct fuse_in_header h = {
		.len = 1000, .opcode = FUSE_GETATTR, .nodeid = 1, .unique = ++f.unique};
	const struct fuse_out_header *out = (void *)(f.ram + DATA_OUT);
	for (int i = 0; i < 2; i++) {
		h.len = i ? 3 : 1000;
		memcpy(f.ram + DATA_IN, &h, sizeof(h));
		front_desc(&f, 0, GUEST + DATA_IN, 56, VRING_DESC_F_NEXT, 1);
		front_kick(&f, 0);
		CHECK(front_wait(&f) == 16 && out->error == -EINVAL);
	}
	/*
	 * The following requests have room for no answer, or only for a part of it. The server must
	 * not make the directory, and must not write beyond the room.
	 */
	struct fuse_mkdir_in in = {.mode = 0700};
	for (uint32_t room = 0; room < 32; room += 8) {
		h = (struct fuse_in_header){.len = 52, .opcode = FUSE_MKDIR, .nodeid = 1};
		memcpy(f.ram + DATA_IN, &h, 40);
		memcpy(f.ram + DATA_IN + 40, &in, 8);
		memcpy(f.ram + DATA_IN + 48, "dir", 4);
		memset(f.ram + DATA_OUT, 0x55, 64);
		front_desc(&f, 0, GUEST + DATA_IN, 52, VRING_DESC_F_NEXT, 1);
		front_desc(&f, 1, GUEST + DATA_OUT, room, VRING_DESC_F_WRITE, 0);
		front_kick(&f, 0);
		CHECK(front_wait(&f) == (room < 16 ? 0 : 16));
		CHECK(f.ram[DATA_OUT + (room < 16 ? 0 : room)] == 0x55);
	}
	/*
	 * A request that is shorter than the FUSE header must get an empty reply, because the
	 * server does not know the request's id.
	 */
	front_desc(&f, 0, GUEST + DATA_IN, 39, 0, 0);
	front_kick(&f, 0);
	CHECK(front_wait(&f) == 0);
	CHECK(front_end(&f) == ENDED);
}

static void run_before_init(void)
{
	struct fuse_init_in old = {.major = 7, .minor = 30}, newer = {.major = 8};
	struct front f;

	front_begin(&f, false, 100);
	front_start_queue(&f);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "x") == -EIO);
	CHECK(front_fuse(&f, FUSE_INIT, 0, &old, sizeof(old), NULL, 0) == -EPROTO);
	CHECK(front_fuse(&f, FUSE_INIT, 0, &newer, sizeof(newer), NULL, 0) == 0);
	CHECK(((const struct fuse_init_out *)front_reply(&f))->major == 7);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "x") == -EIO);
	front_fuse_init(&f);
	uint64_t node;
	front_create(&f, "file", &node);
	/*
	 * A guest that was reset sends INIT again. The server must then forget all nodes of the
	 * guest and close all its files.
	 */
	front_fuse_init(&f);
	struct fuse_getattr_in in = {0};
	CHECK(front_fuse(&f, FUSE_GETATTR, node, &in, sizeof(in), NULL, 0) == -ESTALE);
	CHECK(front_fuse(&f, FUSE_GETATTR, 1, &in, sizeof(in), NULL, 0) == 0);
	CHECK(front_end(&f) == ENDED);
}

static void run_limits(void)
{
	struct fuse_open_in in = {.flags = O_RDONLY};
	struct front f;
	char name[16];
	uint64_t node;
	int e = 0;

	front_begin(&f, false, 20);
	front_start_queue(&f);
	front_fuse_init(&f);
	for (int i = 0; i < 19; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		CHECK(front_make(&f, name, S_IFREG | 0600, 0) == 0);
	}
	node = front_entry(&f);
	CHECK(front_make(&f, "more", S_IFREG | 0600, 0) == -ENFILE);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "more") == -ENFILE);
	/*
	 * When the guest knows as many nodes as it may, it must still be able to use these nodes
	 * and to list directories.
	 */
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "f1") == 0);
	for (int i = 0; i < 16 && e == 0; i++)
		e = front_fuse(&f, FUSE_OPEN, node, &in, sizeof(in), NULL, 0);
	CHECK(e == 0);
	CHECK(front_fuse(&f, FUSE_OPEN, node, &in, sizeof(in), NULL, 0) == -ENFILE);
	CHECK(front_fuse(&f, FUSE_OPENDIR, 1, &in, sizeof(in), NULL, 0) == -ENFILE);
	struct fuse_forget_in forget_in = {.nlookup = 2};
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "f2") == 0);
	CHECK(front_fuse(&f, FUSE_FORGET, front_entry(&f), &forget_in, sizeof(forget_in), NULL,
		      0) == INT_MIN);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "more") == 0);
	CHECK(front_end(&f) == ENDED);
}

/*
 * Checks that nodes and open files share one budget of descriptors, in which each open file counts
 * twice. Nodes must give up descriptors for open files.
 */
static void run_budget(void)
{
	struct fuse_open_in in = {.flags = O_RDONLY};
	struct fuse_release_in release = {0};
	uint64_t known[300];
	struct front f;
	char name[16];
	unsigned n = 0;

	front_begin_with(&f, false, 1000, 200);
	front_start_queue(&f);
	front_fuse_init(&f);
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
		snprintf(name, sizeof(name), "f%u", i);
		CHECK(front_make(&f, name, S_IFREG | 0600, 0) == 0);
		known[i] = front_entry(&f);
	}
	while (n < ARRAY_SIZE(known) &&
		front_fuse(&f, FUSE_OPEN, known[n], &in, sizeof(in), NULL, 0) == 0)
		n++;
	/*
	 * Each open file takes two of the server's 200 descriptors. So fewer than 100 files can be
	 * open, because the root and a minimum of nodes need descriptors too.
	 */
	CHECK(n >= 80 && n <= 100);
	/*
	 * When the guest can open no more files, it must still be able to look up other files and
	 * read their attributes.
	 */
	for (unsigned i = 0; i < ARRAY_SIZE(known); i++) {
		struct fuse_getattr_in getattr_in = {0};

		snprintf(name, sizeof(name), "f%u", i);
		CHECK(front_name(&f, FUSE_LOOKUP, 1, name) == 0 && front_entry(&f) == known[i]);
		CHECK(front_fuse(&f, FUSE_GETATTR, known[i], &getattr_in, sizeof(getattr_in), NULL,
			      0) == 0);
	}
	CHECK(front_fuse(&f, FUSE_OPEN, known[n], &in, sizeof(in), NULL, 0) == -ENFILE);
	release.fh = 1;
	CHECK(front_fuse(&f, FUSE_RELEASE, known[0], &release, sizeof(release), NULL, 0) == 0);
	CHECK(front_fuse(&f, FUSE_OPEN, known[n], &in, sizeof(in), NULL, 0) == 0);
	CHECK(front_end(&f) == ENDED);
}

static void run_read_only(void)
{
	struct fuse_mkdir_in mkdir_in = {.mode = 0700};
	struct fuse_create_in create_in = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0600};
	struct fuse_setattr_in chmod_in = {.valid = FATTR_MODE, .mode = 0777};
	struct fuse_open_in open_in = {0};
	struct front f;
	char path[128];

	front_begin(&f, true, 100);
	snprintf(path, sizeof(path), "%s/file", f.dir);
	int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && write(fd, "content", 7) == 7 && close(fd) == 0);
	front_start_queue(&f);
	front_fuse_init(&f);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "file") == 0);
	uint64_t node = front_entry(&f);
	CHECK(front_fuse(&f, FUSE_MKDIR, 1, &mkdir_in, sizeof(mkdir_in), "d", 2) == -EROFS);
	CHECK(front_fuse(&f, FUSE_CREATE, 1, &create_in, sizeof(create_in), "c", 2) == -EROFS);
	CHECK(front_fuse(&f, FUSE_TMPFILE, 1, &create_in, sizeof(create_in), "/", 2) == -EROFS);
	CHECK(front_fuse(&f, FUSE_SETATTR, node, &chmod_in, sizeof(chmod_in), NULL, 0) == -EROFS);
	CHECK(front_name(&f, FUSE_UNLINK, 1, "file") == -EROFS);
	CHECK(front_name(&f, FUSE_REMOVEXATTR, node, "user.x") == -EROFS);
	static const uint32_t writing[] = {
		O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC, O_WRONLY | O_APPEND, 3};
	for (size_t i = 0; i < ARRAY_SIZE(writing); i++) {
		open_in.flags = writing[i];
		CHECK(front_fuse(&f, FUSE_OPEN, node, &open_in, sizeof(open_in), NULL, 0) ==
			-EROFS);
	}
	open_in.flags = O_RDONLY;
	CHECK(front_fuse(&f, FUSE_OPEN, node, &open_in, sizeof(open_in), NULL, 0) == 0);
	/* A WRITE must fail, because the file is open for reading only. */
	struct fuse_write_in write_in = {
		.fh = ((const struct fuse_open_out *)front_reply(&f))->fh, .size = 1};
	CHECK(front_fuse(&f, FUSE_WRITE, node, &write_in, sizeof(write_in), "x", 1) == -EROFS);
	CHECK(front_end(&f) == ENDED);
}

ROOT_CHILD_TEST(names)
ROOT_CHILD_TEST(links_out)
ROOT_CHILD_TEST(devices)
ROOT_CHILD_TEST(ids)
ROOT_CHILD_TEST(lengths)
ROOT_CHILD_TEST(before_init)
ROOT_CHILD_TEST(limits)
ROOT_CHILD_TEST(budget)
ROOT_CHILD_TEST(read_only)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_links_out),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_before_init),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_budget),
		cmocka_unit_test(test_read_only),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
