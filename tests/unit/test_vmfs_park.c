/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests a virtio-fs server that may open far fewer descriptors than the guest knows inodes
 * (vm/fs/descriptor_cache.c). The server then "parks" a node: it closes the node's descriptor, and
 * opens it again when a request needs the node.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "unit/rig/child.h"
#include "unit/rig/vmfs_front.h"

#define DESCRIPTORS 64
/*
 * number of descriptors that the server needs for its standard streams, its queue, the guest's
 * memory and one request
 */
#define OTHERS 32
#define MANY 500

static struct front f;
static uint64_t known[MANY]; /* nodes of the files "0" to "499" in directory "d" */
static uint64_t dir;

static int host(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int host(const char *format, ...)
{
	char command[512];
	va_list args;
	int n = snprintf(command, sizeof(command), "cd %s && ", f.dir);

	va_start(args, format);
	vsnprintf(command + n, sizeof(command) - (size_t)n, format, args);
	va_end(args);
	return system(command);
}

static int name_op(uint32_t opcode, uint64_t in, const char *name)
{
	return front_name(&f, opcode, in, name);
}

static uint64_t look_up(uint64_t in, const char *name)
{
	CHECK(name_op(FUSE_LOOKUP, in, name) == 0);
	return front_entry(&f);
}

/* Sends a GETATTR request for the node. Returns 0 or -errno. */
static int getattr(uint64_t node, struct fuse_attr *ret)
{
	struct fuse_getattr_in in = {0};
	int e = front_fuse(&f, FUSE_GETATTR, node, &in, sizeof(in), NULL, 0);

	if (e == 0)
		*ret = ((const struct fuse_attr_out *)front_reply(&f))->attr;
	return e;
}

static int rename_to(
	uint64_t from, const char *name, uint64_t to, const char *new_name, uint32_t flags)
{
	struct fuse_rename2_in in = {.newdir = to, .flags = flags};
	char names[64];
	int n = snprintf(names, sizeof(names), "%s%c%s", name, 0, new_name) + 1;

	return front_fuse(&f, FUSE_RENAME2, from, &in, sizeof(in), names, (size_t)n);
}

static int count_descriptors(void)
{
	char path[64];
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", f.server);
	DIR *d = opendir(path);
	CHECK(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

/*
 * Makes the files "0" to "499", where file i has i bytes, and looks all of them up. The server has
 * then parked most of their nodes, which means that it has closed their descriptors.
 */
static void begin(void)
{
	front_begin_with(&f, false, 2000, DESCRIPTORS);
	CHECK(host("mkdir d") == 0);
	for (int i = 0; i < MANY; i++) {
		char path[PATH_MAX];

		snprintf(path, sizeof(path), "%s/d/%d", f.dir, i);
		int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		CHECK(fd >= 0 && ftruncate(fd, i) == 0);
		close(fd);
	}
	front_start_queue(&f);
	front_fuse_init(&f);
	dir = look_up(1, "d");
	for (int i = 0; i < MANY; i++) {
		char name[16];

		snprintf(name, sizeof(name), "%d", i);
		known[i] = look_up(dir, name);
	}
	CHECK(count_descriptors() <= DESCRIPTORS + OTHERS);
}

static void end(void)
{
	CHECK(count_descriptors() <= DESCRIPTORS + OTHERS);
	CHECK(front_end(&f) == 0);
}

static void all_are_themselves(void)
{
	struct fuse_attr a;

	for (int i = 0; i < MANY; i++) {
		CHECK(getattr(known[i], &a) == 0);
		CHECK(a.size == (uint64_t)i);
	}
}

static void run_all_stay_known(void)
{
	begin();
	all_are_themselves();
	/*
	 * By now the server has parked the directory "d" too, which means that it has closed its
	 * descriptor. The directory must have the same node number when the guest looks it up
	 * again.
	 */
	CHECK(look_up(1, "d") == dir && look_up(dir, "7") == known[7]);
	end();
}

static void run_renamed(void)
{
	struct fuse_attr a;

	begin();
	CHECK(rename_to(1, "d", 1, "e", 0) == 0);
	all_are_themselves();
	CHECK(rename_to(dir, "1", 1, "one", 0) == 0);
	CHECK(rename_to(dir, "2", dir, "3", RENAME_EXCHANGE) == 0);
	CHECK(rename_to(dir, "4", dir, "5", 0) == 0);
	/*
	 * File 5 has no name any more, so the server must keep its descriptor open: it could not
	 * open the file again by a name.
	 */
	all_are_themselves();
	CHECK(getattr(known[5], &a) == 0 && a.nlink == 0);
	CHECK(look_up(1, "one") == known[1] && look_up(dir, "2") == known[3] &&
		look_up(dir, "5") == known[4]);
	end();
}

static void run_unlinked(void)
{
	struct fuse_open_in in = {.flags = O_RDONLY};
	struct fuse_attr a;

	begin();
	CHECK(name_op(FUSE_UNLINK, dir, "10") == 0);
	CHECK(host("ln d/11 d/eleven") == 0);
	CHECK(look_up(dir, "eleven") == known[11]);
	CHECK(name_op(FUSE_UNLINK, dir, "eleven") == 0);
	CHECK(front_fuse(&f, FUSE_OPEN, known[12], &in, sizeof(in), NULL, 0) == 0);
	CHECK(host("rm d/12") == 0);
	all_are_themselves();
	CHECK(getattr(known[10], &a) == 0 && a.nlink == 0);
	CHECK(getattr(known[11], &a) == 0 && a.nlink == 1);
	CHECK(getattr(known[12], &a) == 0 && a.nlink == 0);
	end();
}

static void run_changed_on_the_host(void)
{
	struct fuse_attr a;

	begin();
	CHECK(host("rm d/20 && echo new >d/20 && mv d/21 d/x && ln -sf / d/22 && mkfifo y && mv y "
		   "d/23") == 0);
	for (int i = 20; i < 24; i++)
		CHECK(getattr(known[i], &a) == -ESTALE);
	uint64_t again = look_up(dir, "20");
	CHECK(again != known[20] && getattr(again, &a) == 0 && a.size == 4);
	CHECK(getattr(known[20], &a) == -ESTALE);
	CHECK(look_up(dir, "x") == known[21] && getattr(known[21], &a) == 0 && a.size == 21);
	/*
	 * The host replaces the directory "d" by a symbolic link to it. When the guest uses a file
	 * of the directory, the server must either find the file or answer ESTALE.
	 */
	CHECK(host("mv d real && ln -s real d") == 0);
	CHECK(getattr(known[30], &a) == 0 || getattr(known[30], &a) == -ESTALE);
	CHECK(getattr(known[31], &a) == 0 || getattr(known[31], &a) == -ESTALE);
	end();
}

/*
 * Checks directories that are nested deeper than the server has descriptors, and two directories of
 * which the host makes each the parent of the other by renaming.
 */
static void run_deep(void)
{
	uint64_t at = 1, deep[200];
	struct fuse_attr a;

	begin();
	CHECK(host("i=0; while [ $i -lt 200 ]; do mkdir x && cd x || exit 1; i=$((i+1)); done") ==
		0);
	for (int i = 0; i < 200; i++)
		at = deep[i] = look_up(at, "x");
	all_are_themselves();
	CHECK(getattr(deep[199], &a) == 0 && getattr(deep[0], &a) == 0);
	CHECK(rename_to(deep[150], "x", 1, "moved", 0) == 0);
	all_are_themselves();
	CHECK(getattr(deep[199], &a) == 0);

	CHECK(host("mkdir -p p/q") == 0);
	uint64_t p = look_up(1, "p"), q = look_up(p, "q");
	CHECK(host("mv p/q q && mv p q/p") == 0);
	CHECK(look_up(q, "p") == p);
	all_are_themselves();
	CHECK(getattr(p, &a) == -ESTALE && getattr(q, &a) == -ESTALE);
	CHECK(look_up(1, "q") == q && getattr(p, &a) == 0);
	end();
}

/*
 * Checks that the server cannot find the files of a directory again after the guest has forgotten
 * the directory, and that it finds them after the guest has looked the directory up again.
 */
static void run_forgotten_directory(void)
{
	struct fuse_forget_in in = {.nlookup = 1};
	struct fuse_attr a;

	begin();
	CHECK(front_fuse(&f, FUSE_FORGET, dir, &in, sizeof(in), NULL, 0) == INT_MIN);
	CHECK(getattr(known[1], &a) == -ESTALE);
	dir = look_up(1, "d");
	CHECK(look_up(dir, "1") == known[1] && getattr(known[1], &a) == 0 && a.size == 1);
	end();
}

/*
 * Checks that an open file keeps its descriptor. If open files use all descriptors of the server,
 * it must answer further requests with ENFILE, and must do nothing worse.
 */
static void run_all_in_use(void)
{
	struct fuse_open_in in = {.flags = O_RDONLY};
	struct fuse_release_in release = {0};
	struct fuse_attr a;

	begin();
	CHECK(front_fuse(&f, FUSE_OPENDIR, dir, &in, sizeof(in), NULL, 0) == 0);
	for (int i = 0; i < 13; i++) {
		CHECK(front_fuse(&f, FUSE_OPEN, known[i], &in, sizeof(in), NULL, 0) == 0);
		release.fh = ((const struct fuse_open_out *)front_reply(&f))->fh;
	}
	for (int i = 100; i < 100 + DESCRIPTORS; i++) {
		char name[16];
		int e;

		snprintf(name, sizeof(name), "%d", i);
		e = name_op(FUSE_UNLINK, dir, name);
		CHECK(e == 0 || e == -ENFILE);
	}
	CHECK(getattr(known[300], &a) == -ENFILE);
	CHECK(getattr(known[3], &a) == 0 && a.size == 3);
	CHECK(front_fuse(&f, FUSE_RELEASE, known[12], &release, sizeof(release), NULL, 0) == 0);
	CHECK(getattr(known[300], &a) == 0 && a.size == 300);
	end();
}

/* Checks that the server opens no file that the guest has only looked up. */
static void run_looked_up(void)
{
	struct statx st;
	struct fuse_attr a;

	begin();
	CHECK(statx(AT_FDCWD, f.dir, 0, STATX_BTIME, &st) == 0);
	if (st.stx_mask & STATX_BTIME)
		CHECK(count_descriptors() <= OTHERS);
	all_are_themselves();
	/*
	 * A file that has replaced the looked up one under its name, before a request has used the
	 * node, is another file.
	 */
	CHECK(host("echo old > a && echo new > b") == 0);
	uint64_t node = look_up(1, "a");
	CHECK(host("mv b a") == 0);
	if (st.stx_mask & STATX_BTIME)
		CHECK(getattr(node, &a) == -ESTALE);
	CHECK(look_up(1, "a") != node);
	end();
}

ROOT_CHILD_TEST(all_stay_known)
ROOT_CHILD_TEST(looked_up)
ROOT_CHILD_TEST(renamed)
ROOT_CHILD_TEST(unlinked)
ROOT_CHILD_TEST(changed_on_the_host)
ROOT_CHILD_TEST(deep)
ROOT_CHILD_TEST(forgotten_directory)
ROOT_CHILD_TEST(all_in_use)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_stay_known),
		cmocka_unit_test(test_looked_up),
		cmocka_unit_test(test_renamed),
		cmocka_unit_test(test_unlinked),
		cmocka_unit_test(test_changed_on_the_host),
		cmocka_unit_test(test_deep),
		cmocka_unit_test(test_forgotten_directory),
		cmocka_unit_test(test_all_in_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
