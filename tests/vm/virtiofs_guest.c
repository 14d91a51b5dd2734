/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The /init of the guest in test_virtiofs.py: it loads the modules of /mod, mounts the shares "rw"
 * and "ro", runs each case in a child, and powers off. For each case it prints a line on the
 * console: "ok NAME" or "not ok NAME: WHERE".
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/reboot.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "virtiofs_guest.h"

_Noreturn void fail(const char *file, int line, const char *what)
{
	dprintf(1, "# %s:%d: %s: %s\n", file, line, what, strerror(errno));
	_exit(1);
}

void put(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
	CHECK(fd >= 0);
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(close(fd) == 0);
}

bool holds(const char *path, const char *text)
{
	char b[4096];
	int fd = open(path, O_RDONLY);
	CHECK(fd >= 0);
	ssize_t n = read(fd, b, sizeof(b));
	close(fd);
	return n == (ssize_t)strlen(text) && memcmp(b, text, (size_t)n) == 0;
}

mode_t mode_of(const char *path)
{
	struct stat st;
	CHECK(lstat(path, &st) == 0);
	return st.st_mode;
}

void as_user(uid_t uid, gid_t gid, gid_t extra, void (*f)(void))
{
	int status;
	pid_t p = fork();
	CHECK(p >= 0);
	if (p == 0) {
		CHECK(setgroups(extra ? 1 : 0, &extra) == 0);
		CHECK(setresgid(gid, gid, gid) == 0);
		CHECK(setresuid(uid, uid, uid) == 0);
		f();
		_exit(0);
	}
	CHECK(waitpid(p, &status, 0) == p && status == 0);
}

static void case_statfs(void)
{
	struct statvfs v;
	CHECK(statvfs(".", &v) == 0 && v.f_bsize >= 512 && v.f_blocks > 0 && v.f_namemax == 255);
}

static void case_submount(void)
{
	struct stat a, b;
	put("/rw/mounted/guest", "x", 0600);
	/*
	 * An inode number of the file system that the host has mounted in the share must differ
	 * from all inode numbers of the share's own.
	 */
	for (int i = 0; i < 64; i++) {
		char path[32];
		snprintf(path, sizeof(path), "/rw/mounted/g%d", i);
		put(path, "x", 0600);
		CHECK(stat(path, &a) == 0 && (a.st_ino >> 48) != 0);
	}
	CHECK(stat("/rw", &a) == 0 && (a.st_ino >> 48) == 0);
	CHECK(stat("/rw/mounted/guest", &b) == 0);
	CHECK(a.st_dev != b.st_dev || a.st_ino != b.st_ino);
	FAILS(rename("/rw/mounted/guest", "moved"), EXDEV);
	/* sync() in the guest must sync all file systems of the share on the host. */
	sync();
	CHECK(holds("/rw/mounted/host", "under"));
}

static void case_programs(void)
{
	/* The guest must be able to read, map and execute a program that lies in the share. */
	CHECK(system("set -e; cp /bin/busybox .; b=./busybox; chmod 755 $b; mkdir -p t/a/b/c; "
		     "for i in 1 2 3 4 5 6 7 8 9; do echo $i >t/a/b/f$i; ln -s f$i t/a/b/l$i; "
		     "done; "
		     "ln t/a/b/f1 t/a/hard; $b tar cf t.tar t; mkdir u; $b tar xf t.tar -C u; "
		     "$b diff -r t u/t; $b cp -a u/t v; $b test \"$($b find v | $b wc -l)\" = 23; "
		     "$b cmp $b /bin/busybox; $b rm -rf t u; ! $b test -e u") == 0);
}

static void case_read_only(void)
{
	CHECK(holds("/ro/file", "read only"));
	/* The guest remounts the share /ro read-write, which must not make the share writable. */
	CHECK(mount(NULL, "/ro", NULL, MS_REMOUNT, NULL) == 0);
	FAILS(open("/ro/file", O_RDWR), EROFS);
	FAILS(open("/ro/file", O_RDONLY | O_TRUNC), EROFS);
	FAILS(open("/ro/new", O_CREAT | O_WRONLY, 0600), EROFS);
	FAILS(mkdir("/ro/dir", 0700), EROFS);
	FAILS(unlink("/ro/file"), EROFS);
	FAILS(rename("/ro/file", "/ro/x"), EROFS);
	FAILS(link("/ro/file", "/ro/x"), EROFS);
	FAILS(symlink("x", "/ro/x"), EROFS);
	FAILS(chmod("/ro/file", 0777), EROFS);
	FAILS(chown("/ro/file", 1, 1), EROFS);
	FAILS(truncate("/ro/file", 0), EROFS);
	FAILS(setxattr("/ro/file", "user.x", "x", 1, 0), EROFS);
	FAILS(open("/ro", O_TMPFILE | O_RDWR, 0600), EROFS);
	FAILS(mkfifo("/ro/fifo", 0600), EROFS);
}

/*
 * Prints "host-1" and so on to the console, to make the host change the file, and checks that the
 * guest sees each change.
 */
static void case_host_changes(void)
{
	struct stat st;
	put("/rw/seen", "first", 0600);
	CHECK(holds("/rw/seen", "first"));
	dprintf(1, "# host: change\n");
	for (int i = 0; i < 100 && !holds("/rw/seen", "second!"); i++)
		usleep(100000);
	CHECK(holds("/rw/seen", "second!"));
	for (int i = 0; i < 50 && stat("/rw/made-by-host", &st) < 0; i++)
		usleep(100000);
	CHECK(holds("/rw/made-by-host", "yes"));
}

static const struct {
	const char *name;
	void (*run)(void);
} cases[] = {
	{"create", case_create},
	{"append", case_append},
	{"rename", case_rename},
	{"link", case_link},
	{"symlink", case_symlink},
	{"xattr", case_xattr},
	{"acl", case_acl},
	{"acl_submount", case_acl_submount},
	{"posix_locks", case_posix_locks},
	{"flock", case_flock},
	{"mmap", case_mmap},
	{"large", case_large},
	{"sparse", case_sparse},
	{"fallocate", case_fallocate},
	{"copy_range", case_copy_range},
	{"tmpfile", case_tmpfile},
	{"unlink_open", case_unlink_open},
	{"directories", case_directories},
	{"readdir", case_readdir},
	{"remove_while_reading", case_remove_while_reading},
	{"permissions", case_permissions},
	{"set_id", case_set_id},
	{"mknod", case_mknod},
	{"times", case_times},
	{"statfs", case_statfs},
	{"submount", case_submount},
	{"programs", case_programs},
	{"read_only", case_read_only},
	{"host_changes", case_host_changes},
};

static void run_case(const char *name, void (*run)(void))
{
	char dir[64];
	int status;
	pid_t p = fork();
	if (p == 0) {
		umask(022);
		snprintf(dir, sizeof(dir), "/rw/%s", name);
		alarm(40);
		CHECK(mkdir(dir, 0755) == 0 && chdir(dir) == 0);
		run();
		_exit(0);
	}
	waitpid(p, &status, 0);
	if (status == 0)
		dprintf(1, "ok %s\n", name);
	else
		dprintf(1, "not ok %s: status %#x\n", name, status);
}

static void load_modules(void)
{
	char path[300], name[256];
	FILE *order = fopen("/mod/order", "re");
	CHECK(order);
	while (fscanf(order, "%255s", name) == 1) {
		snprintf(path, sizeof(path), "/mod/%s", name);
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		CHECK(fd >= 0);
		CHECK(syscall(SYS_finit_module, fd, "", 0) == 0);
		close(fd);
	}
	fclose(order);
}

static void set_up(void)
{
	CHECK(mount("dev", "/dev", "devtmpfs", 0, NULL) == 0);
	CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
	int console = open("/dev/ttyS0", O_RDWR);
	CHECK(console >= 0);
	for (int i = 0; i < 3; i++)
		dup2(console, i);
	CHECK(system("/bin/busybox --install -s /bin") == 0);
	load_modules();
	CHECK(mount("rw", "/rw", "virtiofs", 0, NULL) == 0);
	CHECK(mount("ro", "/ro", "virtiofs", 0, NULL) == 0);
	put("/etc/passwd", "the guest's\n", 0644);
}

int main(void)
{
	int status;
	/*
	 * Process 1 only waits for its children, because a panic of the kernel at the end of
	 * process 1 would come before the message about a failed case.
	 */
	setenv("PATH", "/bin", 1);
	pid_t p = fork();
	if (p == 0) {
		set_up();
		for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
			run_case(cases[i].name, cases[i].run);
		CHECK(umount("/rw") == 0 && umount("/ro") == 0);
		dprintf(1, "done\n");
		_exit(0);
	}
	waitpid(p, &status, 0);
	reboot(LINUX_REBOOT_CMD_POWER_OFF);
	return 1;
}
