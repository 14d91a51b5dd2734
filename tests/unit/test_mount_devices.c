/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tests how the mount steps of the container's first process (INIT) make devices and the console.
 * The tests ask the kernel whether devices and console are right.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "unit/rig/box.h"

/*
 * Puts a device, a link and a file that an image could contain into /dev of the root file system.
 * The test then checks which of them the steps DEVICE and SYMLINK keep, and which they replace.
 */
static void device_prepare(struct box *b)
{
	EXPECT(mkdir(ROOTFS "/dev", 0755) == 0);
	EXPECT(mknod(ROOTFS "/dev/have", S_IFCHR | 0600, makedev(1, 5)) == 0);
	EXPECT(symlink("/somewhere", ROOTFS "/dev/ptmx") == 0);
	box_write(ROOTFS "/dev/stdin", "the image's");
}

static void device_host(struct box *b)
{
	box_open(b, "/dev/null", NULL);
	box_open(b, "/dev/null", NULL);
}

static void device_init(struct box *b)
{
	struct spec_device d = {.path = "/dev/have", .type = 'c', .major = 1, .minor = 5};
	struct stat st;

	box_attach(b);
	d.file_mode = (struct opt_u64){true, 0666};
	d.gid = (struct opt_u64){true, 12};
	EXPECT(box_device(b, d, -1) >= 0);
	EXPECT(stat(ROOTFS "/dev/have", &st) == 0 && (st.st_mode & 07777) == 0666);
	EXPECT(st.st_gid == 12 && st.st_rdev == makedev(1, 5));
	d.minor = 6;
	EXPECT_ERR(box_device(b, d, -1), EEXIST, "1:5, expected a character device 1:6");
	d = (struct spec_device){.path = "/a/b/pipe", .type = 'p', .file_mode = {true, 0622}};
	EXPECT(box_device(b, d, -1) >= 0 && box_device(b, d, -1) >= 0);
	EXPECT(stat(ROOTFS "/a/b/pipe", &st) == 0 && S_ISFIFO(st.st_mode));
	EXPECT((st.st_mode & 07777) == 0622);
	d = (struct spec_device){.path = "/dev/sda", .type = 'b', .major = 8, .uid = {true, 3}};
	EXPECT(box_device(b, d, -1) >= 0);
	EXPECT(stat(ROOTFS "/dev/sda", &st) == 0 && S_ISBLK(st.st_mode) && st.st_uid == 3);
	d = (struct spec_device){.path = "/dev/null", .type = 'c', .major = 1, .minor = 3};
	EXPECT(box_device(b, d, 1) >= 0);
	EXPECT(stat(ROOTFS "/dev/null", &st) == 0 && st.st_rdev == makedev(1, 3));
	EXPECT(*box_mountinfo(ROOTFS "/dev/null"));
	d.path = "/dev/zero";
	d.minor = 5;
	EXPECT_ERR(box_device(b, d, 2), EEXIST, "on the host is a character device 1:3");
	d.path = "/dev/..";
	EXPECT_ERR(box_device(b, d, -1), EINVAL, "path");

	EXPECT(box_link(b, "pts/ptmx", "/dev/ptmx") >= 0);
	EXPECT(box_link(b, "pts/ptmx", "/dev/ptmx") >= 0);
	char target[64] = "";
	EXPECT(readlink(ROOTFS "/dev/ptmx", target, 63) == 8 && streq(target, "pts/ptmx"));
	EXPECT(box_link(b, "/proc/self/fd/0", "/dev/stdin") >= 0);
	EXPECT(box_has(ROOTFS "/dev/stdin", "the image's"));
}

BOX_TEST(devices, .prepare = device_prepare, .host = device_host, .init = device_init)

/*
 * Checks that the container's first process binds the host's device nodes in a user namespace,
 * because it cannot make nodes there.
 */
static void no_mknod_init(struct box *b)
{
	struct spec_device d = {.path = "/etc/null", .type = 'c', .major = 1, .minor = 3};
	struct stat st;

	box_attach(b);
	EXPECT_ERR(box_device(b, d, -1), EPERM, "/etc/null");
	EXPECT(box_new(b, "tmpfs", "/dev", OPTS("mode=755")) >= 0);
	d.path = "/dev/null";
	EXPECT(box_device(b, d, -1) >= 0);
	EXPECT(stat(ROOTFS "/dev/null", &st) == 0 && st.st_rdev == makedev(1, 3));
	box_write(ROOTFS "/dev/null", "gone");
}

BOX_TEST(no_mknod, .init = no_mknod_init, .flags = CLONE_NEWUSER)

/*
 * Checks that the container's first process can make the container's terminal although /dev is
 * read-only already.
 */
static void console_init(struct box *b)
{
	struct winsize size;
	struct stat st, console;
	char text[16] = "";

	b->plan.terminal = true;
	b->process = (struct spec_process){.terminal = true, .console_height = 30};
	b->process.console_width = 90;
	b->process.user.uid = 33;
	box_attach(b);
	EXPECT(box_new(b, "tmpfs", "/dev", OPTS("mode=755", "ro")) >= 0);
	EXPECT(box_new(b, "devpts", "/dev/pts", OPTS("newinstance", "ptmxmode=0000")) >= 0);
	EXPECT(box_number(b, step_pivot, 0) >= 0);
	EXPECT(box_console(b) >= 0);
	EXPECT(mkdir("/dev/x", 0755) < 0 && errno == EROFS);
	for (int fd = 0; fd <= 2; fd++)
		EXPECT(isatty(fd) && ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_row == 30 &&
			size.ws_col == 90 && !(fcntl(fd, F_GETFD) & FD_CLOEXEC));
	EXPECT(fstat(0, &st) == 0 && st.st_uid == 33 && stat("/dev/console", &console) == 0);
	EXPECT(st.st_rdev == console.st_rdev && st.st_ino == console.st_ino);
	EXPECT(streq(ttyname(0), "/dev/pts/0"));
	EXPECT(getsid(0) == getpid() && tcgetpgrp(0) == getpid());
	EXPECT(write(1, "hello", 5) == 5 && read(b->console, text, 15) == 5 &&
		streq(text, "hello"));
	/*
	 * Checks that a process of `caisson exec` gets a terminal of its own, and that /dev/console
	 * stays as it is.
	 */
	b->plan.exec = true;
	pid_t pid = fork();
	if (pid == 0) {
		EXPECT(box_console(b) >= 0 && streq(ttyname(0), "/dev/pts/1"));
		EXPECT(stat("/dev/console", &st) == 0 && st.st_ino == console.st_ino);
		_exit(0);
	}
	int status;
	EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
}

BOX_TEST(console, .init = console_init)
BOX_TEST(console_userns, .init = console_init, .flags = CLONE_NEWUSER)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_no_mknod),
		cmocka_unit_test(test_console),
		cmocka_unit_test(test_console_userns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
