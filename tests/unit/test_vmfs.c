/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtio-fs server against a fake front end: requests well-formed and hostile, rings and
 * messages that break the rules. After each the server must have answered by the protocol, or ended
 * with -EPROTO.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/str.h"
#include "unit/rig/child.h"
#include "unit/rig/vmfs_front.h"

#define ENDED 0
#define REFUSED 3

static int make(struct front *f, const char *name, uint32_t mode, uint32_t rdev)
{
	struct fuse_mknod_in in = {.mode = mode, .rdev = rdev};

	return front_fuse(f, FUSE_MKNOD, 1, &in, sizeof(in), name, strlen(name) + 1);
}

static void ready(struct front *f)
{
	front_begin(f, false, 100);
	front_start_queue(f);
	front_fuse_init(f);
}

static void run_messages(void)
{
	struct front f;

	front_begin(&f, false, 100);
	uint64_t features = front_ask(&f, 1, 0);
	CHECK(features == (UINT64_C(1) << 32 | 1U << 30 | 1U << 29 | 1U << 28));
	CHECK(front_ask(&f, 15, 0) == (1 | 8 | 1 << 13));
	front_set(&f, 16, 1 | 8);
	CHECK(front_ask(&f, 17, 0) == 17);
	/* With REPLY_ACK each message can be confirmed. */
	struct front_message m = {.request = 3, .flags = 8};
	front_send(&f, &m, NULL, 0);
	CHECK(recv(f.sock, &m, sizeof(m), 0) == 20 && m.request == 3 && m.p.u64[0] == 0);
	front_start_queue(&f);
	front_fuse_init(&f);
	const struct fuse_init_out *out = front_reply(&f);
	CHECK(out->major == 7 && out->minor == 36 && out->max_write == 1 << 20);
	/* Stop, and go on where it stopped. */
	CHECK(front_ask(&f, 11, 1) == ((uint64_t)f.avail << 32 | 1));
	front_set_vring(&f, 10, 1, f.avail);
	front_set_fd(&f, 12, 1, f.kick);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "none") == -ENOENT);
	/* A new interrupt descriptor while the queue runs: nothing is lost that went to the old
	 * one. */
	uint64_t count = 0;
	int old_call = f.call;
	f.call = eventfd(0, EFD_CLOEXEC);
	front_set_fd(&f, 13, 1, f.call);
	CHECK(read(f.call, &count, sizeof(count)) == sizeof(count) && count == 1);
	close(old_call);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "none") == -ENOENT);
	/* The same memory again, as at hot-plug, while the queue runs. */
	front_set_memory(&f, GUEST, MEMORY, USER, 0);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "none") == -ENOENT);
	/* A message in two pieces. */
	struct front_message half = {.request = 18, .flags = 1, .size = 8, .p.u32 = {1, 1}};
	front_send_raw(&f, &half, 7, NULL, 0);
	usleep(20000);
	front_send_raw(&f, (char *)&half + 7, 13, NULL, 0);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "none") == -ENOENT);
	CHECK(front_end(&f) == ENDED);
}

/* Each of these must end the connection with an error, and nothing else. */
static void break_message(unsigned int how)
{
	struct front_message m = {
		.request = 5, .flags = 1, .size = 40, .p.u64 = {1, GUEST, MEMORY, USER, 0}};
	struct front f;
	int many[9];

	front_begin(&f, false, 100);
	for (size_t i = 0; i < 9; i++)
		many[i] = f.memory;
	switch (how) {
	case 0: /* regions without a descriptor */
		front_send(&f, &m, NULL, 0);
		break;
	case 1: /* more descriptors than regions */
		front_send(&f, &m, many, 2);
		break;
	case 2: /* more descriptors than any message has */
		front_send(&f, &m, many, 9);
		break;
	case 3: /* more regions than there are */
		m.p.u64[0] = 0xffffffff;
		front_send(&f, &m, many, 1);
		break;
	case 4: /* regions beyond the message */
		m.p.u64[0] = 2;
		front_send(&f, &m, many, 2);
		break;
	case 5:
		front_set_memory(&f, GUEST, MEMORY + 4096, USER, 0);
		break;
	case 6:
		front_set_memory(&f, GUEST, MEMORY, USER, 4096);
		break;
	case 7:
		front_set_memory(&f, UINT64_MAX - 4095, MEMORY, USER, 0);
		break;
	case 8:
		front_set_memory(&f, GUEST, UINT64_MAX, USER, 4096);
		break;
	case 9:
		front_set_memory(&f, GUEST, 0, USER, 0);
		break;
	case 10: /* a payload that is announced longer than any */
		m.size = 0xffffffff;
		front_send_raw(&f, &m, 12, NULL, 0);
		break;
	case 11: /* one shorter than the request needs */
		m.request = 9;
		m.size = 8;
		front_send(&f, &m, NULL, 0);
		break;
	case 12: /* a wrong version */
		m.flags = 2;
		m.size = 0;
		front_send_raw(&f, &m, 12, NULL, 0);
		break;
	case 13: /* unknown */
		m.request = 0x12345;
		front_send(&f, &m, NULL, 0);
		break;
	case 14:
		front_set_vring(&f, 8, 17, QUEUE);
		break;
	case 15:
		front_set_vring(&f, 8, 1, 7);
		break;
	case 16:
		front_set_vring(&f, 8, 1, 2048);
		break;
	case 17:
		front_set_vring(&f, 10, 1, 0x10000);
		break;
	case 18: /* started without size */
		front_set_fd(&f, 12, 1, f.kick);
		break;
	case 19: /* features that were not offered */
		front_set(&f, 2, UINT64_MAX);
		break;
	case 20:
		front_set_fd(&f, 12, 1 | 0x100, -1);
		break;
	case 21: /* a descriptor where none belongs */
		front_set_fd(&f, 2, 0, f.kick);
		break;
	case 22: /* changed while it runs */
		front_start_queue(&f);
		front_set_vring(&f, 8, 1, 4);
		break;
	case 23: /* rings that leave the memory as it changes */
		front_start_queue(&f);
		front_set_memory(&f, GUEST, MEMORY, USER + MEMORY, 0);
		break;
	case 24: /* a kick that is no eventfd */
		front_start_queue(&f);
		front_set_fd(&f, 12, 1, f.sock);
		break;
	case 25: /* rings outside of memory, or crooked */
	case 26:
	case 27:
	case 28:
		front_set_memory(&f, GUEST, MEMORY, USER, 0);
		front_set_vring(&f, 8, 1, QUEUE);
		front_set_addr(&f, 1, how == 25 ? USER + MEMORY - 64 : USER,
			how == 26 ? USER + AVAIL + 1 : USER + AVAIL,
			how == 27   ? UINT64_MAX - 3
			: how == 28 ? USER + MEMORY - 4
				    : USER + USED);
		front_set_fd(&f, 12, 1, f.kick);
		break;
	default: /* half a message */
		front_send_raw(&f, &m, 20, NULL, 0);
		break;
	}
	int end = front_end(&f);
	if (end != REFUSED && !(how == 24 && end == ENDED))
		fprintf(stderr, "# message %u: the server ended with %d\n", how, end);
	CHECK(end == REFUSED || (how == 24 && end == ENDED));
}

static void run_bad_messages(void)
{
	for (unsigned int how = 0; how <= 29; how++)
		break_message(how);
}

static void run_names(void)
{
	static const char *const bad[] = {"", ".", "..", "a/b", "/etc", "../x", "a/", "/"};
	struct fuse_mkdir_in mkdir_in = {.mode = 0755};
	struct fuse_rename_in rename_in = {.newdir = 1};
	char longest[300];
	struct front f;

	ready(&f);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		size_t len = strlen(bad[i]) + 1;
		char two[64];

		CHECK(front_name(&f, FUSE_LOOKUP, 1, bad[i]) == -EINVAL);
		CHECK(front_name(&f, FUSE_UNLINK, 1, bad[i]) == -EINVAL);
		CHECK(front_name(&f, FUSE_RMDIR, 1, bad[i]) == -EINVAL);
		CHECK(make(&f, bad[i], S_IFREG | 0600, 0) == -EINVAL);
		CHECK(front_fuse(&f, FUSE_MKDIR, 1, &mkdir_in, sizeof(mkdir_in), bad[i], len) ==
			-EINVAL);
		/* As the second name of two, and as that of a link. */
		int n = snprintf(two, sizeof(two), "x%c%s", 0, bad[i]) + 1;
		CHECK(front_fuse(&f, FUSE_RENAME, 1, &rename_in, sizeof(rename_in), two,
			      (size_t)n) == -EINVAL);
		n = snprintf(two, sizeof(two), "%s%ctarget", bad[i], 0) + 1;
		CHECK(front_fuse(&f, FUSE_SYMLINK, 1, NULL, 0, two, (size_t)n) == -EINVAL);
	}
	/* No NUL at the end; one in the middle; none at all. */
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

/* A link in the share that leads out of it is a text, whatever it is used for. */
static void run_links_out(void)
{
	struct fuse_open_in open_in = {.flags = O_RDWR};
	struct fuse_getattr_in getattr_in = {0};
	struct fuse_setattr_in chmod_in = {.valid = FATTR_MODE, .mode = 0777};
	struct front f;
	char path[128];

	ready(&f);
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
	/* CREATE over a link, without O_EXCL: not through it. */
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
	struct front f;
	char path[128];

	ready(&f);
	CHECK(make(&f, "null", S_IFCHR | 0666, 1 << 8 | 3) == -EPERM);
	CHECK(make(&f, "disk", S_IFBLK | 0666, 8 << 8) == -EPERM);
	CHECK(make(&f, "dir", S_IFDIR | 0777, 0) == -EINVAL);
	CHECK(make(&f, "link", S_IFLNK | 0777, 0) == -EINVAL);
	CHECK(make(&f, "whiteout", S_IFCHR, 0) == 0);
	/* A FIFO would stop the server, a device act on the host: they are not opened. */
	CHECK(make(&f, "fifo", S_IFIFO | 0600, 0) == 0);
	CHECK(front_fuse(&f, FUSE_OPEN, front_entry(&f), &in, sizeof(in), NULL, 0) == -EINVAL);
	snprintf(path, sizeof(path), "%s/zero", f.dir);
	CHECK(mknod(path, S_IFCHR | 0666, makedev(1, 5)) == 0);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "zero") == 0);
	CHECK(front_fuse(&f, FUSE_OPEN, front_entry(&f), &in, sizeof(in), NULL, 0) == -EINVAL);
	CHECK(front_end(&f) == ENDED);
}

static uint64_t open_new(struct front *f, const char *name, uint64_t *ret_node)
{
	struct fuse_create_in in = {.flags = O_RDWR | O_CREAT, .mode = S_IFREG | 0600};

	CHECK(front_fuse(f, FUSE_CREATE, 1, &in, sizeof(in), name, strlen(name) + 1) == 0);
	*ret_node = front_entry(f);
	return ((const struct fuse_open_out *)((const struct fuse_entry_out *)front_reply(f) + 1))
		->fh;
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

	ready(&f);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		CHECK(front_fuse(&f, FUSE_GETATTR, bad[i], &getattr_in, sizeof(getattr_in), NULL,
			      0) == -ESTALE);
		CHECK(front_name(&f, FUSE_LOOKUP, bad[i], "x") == -ESTALE);
		CHECK(front_fuse(&f, FUSE_FORGET, bad[i], &forget_in, sizeof(forget_in), NULL, 0) ==
			INT_MIN);
	}
	/* The root can't be forgotten. */
	CHECK(front_fuse(&f, FUSE_FORGET, 1, &forget_in, sizeof(forget_in), NULL, 0) == INT_MIN);
	CHECK(front_fuse(&f, FUSE_GETATTR, 1, &getattr_in, sizeof(getattr_in), NULL, 0) == 0);
	uint64_t fh = open_new(&f, "a", &a), other = open_new(&f, "b", &b);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		read_in.fh = bad[i] == 2 ? 77 : bad[i];
		CHECK(front_fuse(&f, FUSE_READ, a, &read_in, sizeof(read_in), NULL, 0) == -EBADF);
		CHECK(front_fuse(&f, FUSE_READDIR, 1, &read_in, sizeof(read_in), NULL, 0) ==
			-EBADF);
	}
	/* A file of another node; a file as a directory. */
	read_in.fh = other;
	CHECK(front_fuse(&f, FUSE_READ, a, &read_in, sizeof(read_in), NULL, 0) == -EBADF);
	CHECK(front_fuse(&f, FUSE_READDIR, a, &read_in, sizeof(read_in), NULL, 0) == -ENOTDIR);
	/* A forgotten node lives as long as a file is open on it; then its number is dead for good.
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

	ready(&f);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++)
		CHECK(front_fuse(&f, ops[i], 1, "xxx", 4, NULL, 0) == -EINVAL);
	CHECK(front_fuse(&f, 4000000000U, 1, NULL, 0, NULL, 0) == -ENOSYS);
	CHECK(front_fuse(&f, FUSE_IOCTL, 1, big, 40, NULL, 0) == -ENOTTY);
	CHECK(front_fuse(&f, FUSE_LOOKUP, 1, NULL, 0, big, sizeof(big)) == -E2BIG);
	/* More data announced than there is. */
	write_in.fh = read_in.fh = open_new(&f, "file", &node);
	CHECK(front_fuse(&f, FUSE_WRITE, node, &write_in, sizeof(write_in), "data", 4) == -EINVAL);
	write_in.size = UINT32_MAX;
	CHECK(front_fuse(&f, FUSE_WRITE, node, &write_in, sizeof(write_in), "data", 4) == -EINVAL);
	/* More asked for than there is room, at an offset that is none. */
	CHECK(front_fuse(&f, FUSE_READ, node, &read_in, sizeof(read_in), NULL, 0) == -EINVAL);
	read_in.size = 100;
	CHECK(front_fuse(&f, FUSE_READ, node, &read_in, sizeof(read_in), NULL, 0) == -EINVAL);
	/* A header that lies about the length, either way. */
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
	/* No room for an answer, or for a part of one: nothing is done, nothing written beyond. */
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
	/* Less than a header. */
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
	open_new(&f, "file", &node);
	/* A guest that was reset begins anew: what it knew is gone, and closed. */
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
		CHECK(make(&f, name, S_IFREG | 0600, 0) == 0);
	}
	node = front_entry(&f);
	CHECK(make(&f, "more", S_IFREG | 0600, 0) == -ENFILE);
	CHECK(front_name(&f, FUSE_LOOKUP, 1, "more") == -ENFILE);
	/* What is known stays usable, and a listing still works. */
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
	/* WRITE on a file open for reading. */
	struct fuse_write_in write_in = {
		.fh = ((const struct fuse_open_out *)front_reply(&f))->fh, .size = 1};
	CHECK(front_fuse(&f, FUSE_WRITE, node, &write_in, sizeof(write_in), "x", 1) == -EROFS);
	CHECK(front_end(&f) == ENDED);
}

/* Rings that no driver makes. Each ends the server with an error. */
static void break_ring(unsigned int how)
{
	const struct vring_desc loop = {GUEST + TABLE, 16, VRING_DESC_F_NEXT, 0};
	struct vring_avail *a;
	struct front f;

	ready(&f);
	a = (void *)(f.ram + AVAIL);
	front_desc(&f, 0, GUEST + DATA_IN, 64, VRING_DESC_F_NEXT, 1);
	front_desc(&f, 1, GUEST + DATA_OUT, 64, VRING_DESC_F_WRITE, 0);
	switch (how) {
	case 0: /* a chain that is a circle */
		front_desc(&f, 1, GUEST + DATA_IN, 64, VRING_DESC_F_NEXT, 0);
		break;
	case 1: /* of segments of no length */
		front_desc(&f, 0, GUEST + DATA_IN, 0, VRING_DESC_F_NEXT, 0);
		break;
	case 2: /* a head, and a next, that are none */
		front_kick(&f, QUEUE);
		break;
	case 3:
		front_desc(&f, 0, GUEST + DATA_IN, 64, VRING_DESC_F_NEXT, 0xffff);
		break;
	case 4: /* before, behind, and across the ends of memory */
		front_desc(&f, 0, GUEST - 1, 64, 0, 0);
		break;
	case 5:
		front_desc(&f, 0, GUEST + MEMORY - 63, 64, 0, 0);
		break;
	case 6:
		front_desc(&f, 0, UINT64_MAX - 10, 64, 0, 0);
		break;
	case 7:
		front_desc(&f, 0, GUEST, 0xffffffff, 0, 0);
		break;
	case 8: /* readable behind writable */
		front_desc(&f, 0, GUEST + DATA_OUT, 64, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT, 1);
		front_desc(&f, 1, GUEST + DATA_IN, 64, 0, 0);
		break;
	case 9: /* an indirect table of no whole number of descriptors, none, too many */
	case 10:
		front_desc(&f, 0, GUEST + TABLE, how == 9 ? 17 : 0, VRING_DESC_F_INDIRECT, 0);
		break;
	case 11:
		for (unsigned int i = 0; i < 1025; i++)
			memcpy(f.ram + TABLE + 16UL * i,
				&(struct vring_desc){
					GUEST + DATA_IN, 1, VRING_DESC_F_NEXT, (uint16_t)(i + 1)},
				16);
		front_desc(&f, 0, GUEST + TABLE, 16 * 1026, VRING_DESC_F_INDIRECT, 0);
		break;
	case 12: /* outside of memory */
		front_desc(&f, 0, GUEST + MEMORY, 32, VRING_DESC_F_INDIRECT, 0);
		break;
	case 13: /* in an indirect table */
		memcpy(f.ram + TABLE,
			&(struct vring_desc){GUEST + TABLE, 16, VRING_DESC_F_INDIRECT, 0}, 16);
		front_desc(&f, 0, GUEST + TABLE, 16, VRING_DESC_F_INDIRECT, 0);
		break;
	case 14: /* with a circle in it */
		memcpy(f.ram + TABLE, &loop, 16);
		front_desc(&f, 0, GUEST + TABLE, 16, VRING_DESC_F_INDIRECT, 0);
		break;
	case 15: /* and a next */
		front_desc(&f, 0, GUEST + TABLE, 16, VRING_DESC_F_INDIRECT | VRING_DESC_F_NEXT, 1);
		break;
	default: /* an index that is further than the queue is long */
		__atomic_store_n(&a->idx, (uint16_t)(f.avail + QUEUE + 1), __ATOMIC_SEQ_CST);
		f.avail += QUEUE;
		break;
	}
	if (how != 2)
		front_kick(&f, 0);
	CHECK(front_wait(&f) == -1);
	int end = front_end(&f);
	if (end != REFUSED)
		fprintf(stderr, "# ring %u: the server ended with %d\n", how, end);
	CHECK(end == REFUSED);
}

static void run_bad_rings(void)
{
	for (unsigned int how = 0; how <= 16; how++)
		break_ring(how);
}

/* The same descriptors again and again, and a full queue of requests in one kick. */
static void run_replay(void)
{
	struct fuse_in_header h = {.len = 56, .opcode = FUSE_GETATTR, .nodeid = 1};
	struct vring_used *u;
	struct front f;

	ready(&f);
	u = (void *)(f.ram + USED);
	memset(f.ram + DATA_IN, 0, 64);
	memcpy(f.ram + DATA_IN, &h, sizeof(h));
	front_desc(&f, 0, GUEST + DATA_IN, 56, VRING_DESC_F_NEXT, 1);
	front_desc(&f, 1, GUEST + DATA_OUT, 4096, VRING_DESC_F_WRITE, 0);
	for (int round = 0; round < 100; round++) {
		for (unsigned int i = 0; i < QUEUE; i++)
			((struct vring_avail *)(f.ram + AVAIL))->ring[i] = 0;
		f.avail += QUEUE - 1;
		front_kick(&f, 0);
		CHECK(front_wait(&f) == 16 + sizeof(struct fuse_attr_out));
	}
	CHECK(u->idx == f.avail);
	/* An indirect chain, well-formed. */
	memcpy(f.ram + TABLE, f.ram, 32);
	front_desc(&f, 3, GUEST + TABLE, 32, VRING_DESC_F_INDIRECT, 0);
	front_kick(&f, 3);
	CHECK(front_wait(&f) == 16 + sizeof(struct fuse_attr_out));
	CHECK(front_end(&f) == ENDED);
}

/* A request that waits for a lock is answered when the queue stops, and nothing of it is used
 * later. */
static void run_waiting_lock(void)
{
	struct fuse_lk_in in = {.owner = 1, .lk = {.end = INT64_MAX, .type = F_WRLCK}};
	const struct fuse_out_header *out;
	uint64_t node;
	struct front f;

	ready(&f);
	in.fh = open_new(&f, "file", &node);
	CHECK(front_fuse(&f, FUSE_SETLK, node, &in, sizeof(in), NULL, 0) == 0);
	in.owner = 2;
	CHECK(front_fuse(&f, FUSE_SETLK, node, &in, sizeof(in), NULL, 0) == -EAGAIN);
	struct fuse_in_header h = {
		.len = sizeof(h) + sizeof(in), .opcode = FUSE_SETLKW, .nodeid = node, .unique = 77};
	memcpy(f.ram + DATA_IN, &h, sizeof(h));
	memcpy(f.ram + DATA_IN + sizeof(h), &in, sizeof(in));
	front_desc(&f, 0, GUEST + DATA_IN, h.len, VRING_DESC_F_NEXT, 1);
	front_kick(&f, 0);
	usleep(50000);
	CHECK(((struct vring_used *)(f.ram + USED))->idx == (uint16_t)(f.avail - 1));
	CHECK(front_ask(&f, 11, 1) == ((uint64_t)f.avail << 32 | 1));
	out = (void *)(f.ram + DATA_OUT);
	CHECK(front_wait(&f) == 16 && out->unique == 77 && out->error == -ENOLCK);
	CHECK(front_end(&f) == ENDED);
}

#define TEST(name) \
	static void test_##name(void **state) \
	{ \
		needs_root(); \
		in_child(run_##name); \
	}
TEST(messages)
TEST(bad_messages)
TEST(names)
TEST(links_out)
TEST(devices)
TEST(ids)
TEST(lengths)
TEST(before_init)
TEST(limits)
TEST(read_only)
TEST(bad_rings)
TEST(replay)
TEST(waiting_lock)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_bad_messages),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_links_out),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_before_init),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_bad_rings),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_waiting_lock),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
