/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests how the virtio-fs server lists directories on a file system whose cookies are not stable:
 * ramfs, which behaves as tmpfs did before Linux 6.6. The test behaves like the guest's kernel,
 * which drops the rest of a reply that does not fit into the program's buffer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "unit/rig/child.h"
#include "unit/rig/vmfs_files.h"
#include "unit/rig/vmfs_front.h"

#define FILES 1500

struct listing {
	struct front f;
	uint64_t node;
	struct fuse_read_in in; /* arguments of the test's next READDIR or READDIRPLUS request */
	char path[128];
};

static void add(const struct listing *l, unsigned n)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/file-%u", l->path, n);
	CHECK(mknod(path, S_IFREG | 0600, 0) == 0);
}

static void begin(struct listing *l, const char *type)
{
	struct fuse_open_in open_in = {.flags = O_RDONLY};

	CHECK(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	*l = (struct listing){.in.size = 4096};
	front_begin_with(&l->f, false, 4000, 100);
	front_start_queue(&l->f);
	front_fuse_init(&l->f);
	snprintf(l->path, sizeof(l->path), "%s/many", l->f.dir);
	CHECK(mkdir(l->path, 0700) == 0 && mount("none", l->path, type, 0, NULL) == 0);
	for (unsigned i = 0; i < FILES; i++)
		add(l, i);
	CHECK(front_name(&l->f, FUSE_LOOKUP, 1, "many") == 0);
	l->node = front_entry(&l->f);
	CHECK(front_fuse(&l->f, FUSE_OPENDIR, l->node, &open_in, sizeof(open_in), NULL, 0) == 0);
	l->in.fh = ((const struct fuse_open_out *)front_reply(&l->f))->fh;
}

static void end(struct listing *l)
{
	/* the call fails, because the server still has the mount open */
	CHECK(umount(l->path) < 0);
	CHECK(umount2(l->path, MNT_DETACH) == 0);
	CHECK(front_end(&l->f) == ENDED);
}

/*
 * Asks the server for directory entries, and takes at most `most` of the entries in the answer.
 * Returns the number of files that it has taken. If `removes` is set, it removes each of these
 * files.
 */
static unsigned take(struct listing *l, unsigned most, bool plus, bool removes)
{
	const struct fuse_out_header *head = (const void *)(l->f.ram + DATA_OUT);
	const size_t before = plus ? sizeof(struct fuse_entry_out) : 0;
	char reply[4096], path[512];
	unsigned taken = 0;

	CHECK(front_fuse(&l->f, plus ? FUSE_READDIRPLUS : FUSE_READDIR, l->node, &l->in,
		      sizeof(l->in), NULL, 0) == 0);
	const size_t len = head->len - sizeof(*head);
	CHECK(len <= sizeof(reply));
	memcpy(reply, front_reply(&l->f), len);
	for (size_t at = 0; at < len && most > 0; most--) {
		const struct fuse_dirent *d = (const void *)(reply + at + before);

		at += before + FUSE_DIRENT_SIZE(d);
		l->in.offset = d->off;
		if (d->name[0] == '.')
			continue;
		taken++;
		snprintf(path, sizeof(path), "%s/%.*s", l->path, (int)d->namelen, d->name);
		CHECK(!removes || unlink(path) == 0);
	}
	return taken;
}

static unsigned take_all(struct listing *l, unsigned most, bool plus, bool removes)
{
	unsigned sum = 0;

	for (uint64_t before = UINT64_MAX; before != l->in.offset;) {
		before = l->in.offset;
		sum += take(l, most, plus, removes);
	}
	return sum;
}

static void run_removal(void)
{
	for (int plus = 0; plus < 2; plus++) {
		struct listing l;

		begin(&l, "ramfs");
		CHECK(take_all(&l, 7, plus, true) == FILES);
		CHECK(rmdir(l.path) < 0);
		l.in.offset = 0;
		CHECK(take_all(&l, UINT32_MAX, plus, false) == 0);
		end(&l);
	}
}

/*
 * Checks that a listing that starts again at the beginning shows the current files, even if the
 * server still keeps the block of entries that it has read from the directory before.
 */
static void run_rewind(void)
{
	struct listing l;

	begin(&l, "tmpfs");
	CHECK(take(&l, 5, false, false) > 0);
	add(&l, FILES);
	l.in.offset = 0;
	CHECK(take_all(&l, UINT32_MAX, false, false) == FILES + 1);
	l.in.offset = 0;
	CHECK(take_all(&l, 11, false, true) == FILES + 1);
	end(&l);
}

/* Checks that the guest can continue a listing at any cookie that the server has given it. */
static void run_seek(void)
{
	struct listing l;

	begin(&l, "tmpfs");
	unsigned first = take_all(&l, UINT32_MAX, false, false);
	CHECK(first == FILES);
	l.in.offset = 0;
	first = take(&l, 20, false, false);
	uint64_t cookie = l.in.offset;
	unsigned rest = take_all(&l, UINT32_MAX, false, false);
	CHECK(first + rest == FILES);
	l.in.offset = cookie;
	CHECK(take_all(&l, 30, true, false) == rest);
	end(&l);
}

ROOT_CHILD_TEST(removal)
ROOT_CHILD_TEST(rewind)
ROOT_CHILD_TEST(seek)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_removal),
		cmocka_unit_test(test_rewind),
		cmocka_unit_test(test_seek),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
