/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests a mount of the share that becomes read-only ("sealed") while it is served. The host's
 * kernel must then refuse every write, whatever the guest asks for and whatever it had open before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "unit/rig/child.h"
#include "unit/rig/vmfs_front.h"
#include "vm/fs/fs.h"

struct sealed {
	struct front f;
	int seal; /* the test's end of the socket on which it asks the server to seal the mount */
	/* numbers of two nodes: the root of the sealed mount, and a file in it */
	uint64_t root, file;
};

/*
 * Makes two mounts in the share, as runtime/engine/share.c does, and serves them in the test's
 * child process. The test will seal the mount "0".
 */
_Noreturn static void serve(const struct front *f, int sock, int seal)
{
	struct vmfs_config c = {.sock = sock,
		.seal = seal,
		.sealed = "0",
		.locks = true,
		.max_nodes = 100,
		.max_descriptors = 100,
		.max_handles = 16};

	CHECK(unshare(CLONE_NEWNS) == 0);
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(chdir(f->dir) == 0);
	CHECK(mount("0", "0", NULL, MS_BIND, NULL) == 0);
	CHECK(mount("1", "1", NULL, MS_BIND, NULL) == 0);
	c.root = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	c.proc = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK(fs_seal_start(&c) == 0);
	close(seal);
	/*
	 * The server's process ends with exit() and not with _exit(), so that LeakSanitizer looks
	 * for leaks.
	 */
	exit(vmfs_serve(&c) == 0 ? 0 : 1);
}

static void make_tree(const char *dir)
{
	CHECK(chdir(dir) == 0);
	CHECK(mkdir("0", 0755) == 0 && mkdir("1", 0755) == 0 && mkdir("0/d", 0755) == 0);
	int fd = open("0/file", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	CHECK(fd >= 0 && write(fd, "content", 7) == 7 && close(fd) == 0);
	CHECK(chdir("/") == 0);
}

static void begin(struct sealed *s)
{
	struct front *f = &s->f;
	int server = front_open(f), ends[2];

	strcpy(f->dir, "/tmp/vmfs-test.XXXXXX");
	CHECK(mkdtemp(f->dir));
	make_tree(f->dir);
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
	s->seal = ends[0];
	f->server = fork();
	CHECK(f->server >= 0);
	if (f->server == 0) {
		close(f->sock);
		close(s->seal);
		munmap(f->ram, MEMORY);
		serve(f, server, ends[1]);
	}
	close(server);
	close(ends[1]);
	front_start_queue(f);
	front_fuse_init(f);
	CHECK(front_name(f, FUSE_LOOKUP, 1, "0") == 0);
	s->root = front_entry(f);
	CHECK(front_name(f, FUSE_LOOKUP, s->root, "file") == 0);
	s->file = front_entry(f);
}

static uint64_t open_file(struct front *f, uint64_t node, uint32_t flags)
{
	struct fuse_open_in in = {.flags = flags};

	CHECK(front_fuse(f, FUSE_OPEN, node, &in, sizeof(in), NULL, 0) == 0);
	return ((const struct fuse_open_out *)front_reply(f))->fh;
}

static void ask_to_seal(const struct sealed *s)
{
	CHECK(write(s->seal, "", 1) == 1);
}

/*
 * Waits up to `ms` milliseconds until the server reports the result of the sealing. Returns the
 * result, or -1 if there is none yet.
 */
static int answer(const struct sealed *s, int ms)
{
	struct pollfd p = {.fd = s->seal, .events = POLLIN};
	int n = -1;

	if (poll(&p, 1, ms) == 1)
		CHECK(read(s->seal, &n, sizeof(n)) == sizeof(n));
	return n;
}

static int make_dir(struct front *f, uint64_t dir, const char *name)
{
	struct fuse_mkdir_in in = {.mode = 0700};

	return front_fuse(f, FUSE_MKDIR, dir, &in, sizeof(in), name, strlen(name) + 1);
}

static int set(struct sealed *s, struct fuse_setattr_in in)
{
	return front_fuse(&s->f, FUSE_SETATTR, s->file, &in, sizeof(in), NULL, 0);
}

static void refuses_attributes(struct sealed *s)
{
	struct fuse_setxattr_in xattr = {.size = 1};

	CHECK(set(s, (struct fuse_setattr_in){.valid = FATTR_MODE, .mode = 0777}) == -EROFS);
	CHECK(set(s, (struct fuse_setattr_in){.valid = FATTR_UID, .uid = 7}) == -EROFS);
	CHECK(set(s, (struct fuse_setattr_in){.valid = FATTR_GID, .gid = 7}) == -EROFS);
	CHECK(set(s, (struct fuse_setattr_in){.valid = FATTR_SIZE, .size = 1}) == -EROFS);
	CHECK(set(s, (struct fuse_setattr_in){.valid = FATTR_MTIME_NOW}) == -EROFS);
	CHECK(front_fuse(&s->f, FUSE_SETXATTR, s->file, &xattr, sizeof(xattr), "user.x\0v", 8) ==
		-EROFS);
	CHECK(front_name(&s->f, FUSE_REMOVEXATTR, s->file, "user.y") == -EROFS);
}

static void refuses_names(struct sealed *s)
{
	struct fuse_mknod_in mknod_in = {.mode = S_IFREG | 0600};
	struct fuse_create_in create = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0600};
	struct fuse_rename_in rename_in = {.newdir = s->root};
	struct fuse_rename2_in exchange = {.newdir = s->root, .flags = RENAME_EXCHANGE};
	struct fuse_link_in link_in = {.oldnodeid = s->file};
	struct front *f = &s->f;
	uint64_t dir = s->root;

	CHECK(front_fuse(f, FUSE_MKNOD, dir, &mknod_in, sizeof(mknod_in), "n", 2) == -EROFS);
	CHECK(make_dir(f, dir, "n") == -EROFS);
	CHECK(front_fuse(f, FUSE_SYMLINK, dir, NULL, 0, "n\0/etc", 7) == -EROFS);
	CHECK(front_fuse(f, FUSE_LINK, dir, &link_in, sizeof(link_in), "n", 2) == -EROFS);
	CHECK(front_fuse(f, FUSE_CREATE, dir, &create, sizeof(create), "n", 2) == -EROFS);
	CHECK(front_fuse(f, FUSE_TMPFILE, dir, &create, sizeof(create), "/", 2) == -EROFS);
	CHECK(front_name(f, FUSE_UNLINK, dir, "file") == -EROFS);
	CHECK(front_name(f, FUSE_RMDIR, dir, "d") == -EROFS);
	CHECK(front_fuse(f, FUSE_RENAME, dir, &rename_in, sizeof(rename_in), "file\0n", 7) ==
		-EROFS);
	CHECK(front_fuse(f, FUSE_RENAME2, dir, &exchange, sizeof(exchange), "file\0d", 7) ==
		-EROFS);
}

/*
 * Checks that the guest cannot write to a file of the sealed mount, neither without a handle nor
 * with the handle `old`, which it had before the sealing.
 */
static void refuses_content(struct sealed *s, uint64_t old)
{
	static const uint32_t writing[] = {O_WRONLY, O_RDWR, O_RDONLY | O_TRUNC};
	struct front *f = &s->f;

	for (size_t i = 0; i < ARRAY_SIZE(writing); i++) {
		struct fuse_open_in in = {.flags = writing[i]};

		CHECK(front_fuse(f, FUSE_OPEN, s->file, &in, sizeof(in), NULL, 0) == -EROFS);
	}
	const uint64_t handles[] = {old, open_file(f, s->file, O_RDONLY)};
	for (size_t i = 0; i < ARRAY_SIZE(handles); i++) {
		uint64_t fh = handles[i];
		struct fuse_write_in write_in = {.fh = fh, .size = 1};
		struct fuse_fallocate_in more = {.fh = fh, .length = 4096};
		struct fuse_copy_file_range_in copy = {.fh_in = handles[1],
			.nodeid_out = s->file,
			.fh_out = fh,
			.off_out = 7,
			.len = 7};

		CHECK(front_fuse(f, FUSE_WRITE, s->file, &write_in, sizeof(write_in), "x", 1) < 0);
		CHECK(front_fuse(f, FUSE_FALLOCATE, s->file, &more, sizeof(more), NULL, 0) < 0);
		CHECK(front_fuse(f, FUSE_COPY_FILE_RANGE, s->file, &copy, sizeof(copy), NULL, 0) <
			0);
		CHECK(set(s, (struct fuse_setattr_in){
				     .valid = FATTR_SIZE | FATTR_FH, .fh = fh, .size = 1}) < 0);
	}
}

static void run_sealed(void)
{
	struct fuse_release_in release = {0};
	struct stat before, after;
	char path[96];
	struct sealed s;

	begin(&s);
	CHECK(make_dir(&s.f, s.root, "made") == 0);
	uint64_t old = open_file(&s.f, s.file, O_RDWR);
	/*
	 * As long as the guest has a file open for writing, the mount must not be sealed, and the
	 * file must stay open.
	 */
	ask_to_seal(&s);
	CHECK(answer(&s, 300) == -1);
	CHECK(make_dir(&s.f, s.root, "meanwhile") == 0);
	release.fh = old;
	CHECK(front_fuse(&s.f, FUSE_RELEASE, s.file, &release, sizeof(release), NULL, 0) == 0);
	CHECK(answer(&s, 10000) == 0);
	snprintf(path, sizeof(path), "%s/0/file", s.f.dir);
	CHECK(stat(path, &before) == 0);
	refuses_attributes(&s);
	refuses_names(&s);
	refuses_content(&s, old);
	CHECK(stat(path, &after) == 0 && before.st_nlink == after.st_nlink);
	CHECK(memcmp(&before.st_ctim, &after.st_ctim, sizeof(before.st_ctim)) == 0);
	snprintf(path, sizeof(path), "%s/0", s.f.dir);
	/*
	 * The root directory of the sealed mount has five links: two of its own, and one for each
	 * of the directories "d", "made" and "meanwhile".
	 */
	CHECK(stat(path, &after) == 0 && after.st_nlink == 5);
	/* The mount "1", which is not sealed, must stay writable. */
	CHECK(front_name(&s.f, FUSE_LOOKUP, 1, "1") == 0);
	CHECK(make_dir(&s.f, front_entry(&s.f), "n") == 0);
	CHECK(front_end(&s.f) == 0);
}

/*
 * Checks that the server goes on if the process that asked it to seal a mount has ended, and that
 * the server's child process, which seals the mount, ends too.
 */
static void run_nobody_asks(void)
{
	struct sealed s;

	begin(&s);
	close(s.seal);
	usleep(50000);
	CHECK(make_dir(&s.f, s.root, "made") == 0);
	CHECK(front_end(&s.f) == 0);
}

ROOT_CHILD_TEST(sealed)
ROOT_CHILD_TEST(nobody_asks)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sealed),
		cmocka_unit_test(test_nobody_asks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
