/* SPDX-License-Identifier: Apache-2.0 */
/* Cases of virtiofs_guest.c about names in a share: files, links, directories, devices. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "virtiofs_guest.h"

void case_create(void)
{
	struct stat st;
	int fd = open("new", O_CREAT | O_EXCL | O_RDWR, 0640);
	CHECK(fd >= 0);
	CHECK(write(fd, "hello", 5) == 5);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 5 && st.st_mode == (S_IFREG | 0640));
	FAILS(open("new", O_CREAT | O_EXCL | O_RDWR, 0640), EEXIST);
	CHECK(close(fd) == 0);
	CHECK(holds("new", "hello"));
	fd = open("new", O_WRONLY | O_TRUNC);
	CHECK(fd >= 0 && fstat(fd, &st) == 0 && st.st_size == 0);
	FAILS(open("missing", O_RDONLY), ENOENT);
	FAILS(open("new/under", O_RDONLY), ENOTDIR);
}

void case_append(void)
{
	put("log", "one", 0600);
	int a = open("log", O_WRONLY | O_APPEND), b = open("log", O_WRONLY | O_APPEND);
	CHECK(a >= 0 && b >= 0);
	CHECK(write(a, "two", 3) == 3 && write(b, "three", 5) == 5 && write(a, "four", 4) == 4);
	CHECK(holds("log", "onetwothreefour"));
	/*
	 * Flags that fcntl(2) changes after open(2) must take effect: without O_APPEND a write goes
	 * to its offset.
	 */
	CHECK(fcntl(a, F_SETFL, 0) == 0 && pwrite(a, "ONE", 3, 0) == 3);
	CHECK(holds("log", "ONEtwothreefour"));
}

void case_rename(void)
{
	put("a", "A", 0600);
	put("b", "B", 0600);
	CHECK(mkdir("d", 0700) == 0 && mkdir("full", 0700) == 0);
	put("full/x", "x", 0600);
	FAILS(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
	CHECK(renameat2(AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE) == 0);
	CHECK(holds("a", "B") && holds("b", "A"));
	CHECK(rename("a", "d/c") == 0 && holds("d/c", "B"));
	FAILS(open("a", O_RDONLY), ENOENT);
	CHECK(rename("b", "d/c") == 0 && holds("d/c", "A"));
	FAILS(rename("d", "full"), ENOTEMPTY);
	FAILS(rename("d", "d/under"), EINVAL);
	CHECK(rename("d", "e") == 0 && holds("e/c", "A"));
}

void case_link(void)
{
	struct stat x, y;
	put("file", "text", 0600);
	CHECK(link("file", "other") == 0);
	CHECK(stat("file", &x) == 0 && stat("other", &y) == 0);
	CHECK(x.st_ino == y.st_ino && x.st_nlink == 2 && y.st_nlink == 2);
	CHECK(unlink("file") == 0 && holds("other", "text"));
	CHECK(stat("other", &y) == 0 && y.st_nlink == 1);
	FAILS(link("other", "other"), EEXIST);
}

void case_symlink(void)
{
	char b[5000], target[4096];
	put("file", "share", 0600);
	CHECK(symlink("file", "rel") == 0 && holds("rel", "share"));
	/*
	 * An absolute symbolic link in the share must lead to the guest's own file, and not to the
	 * host's.
	 */
	CHECK(symlink("/etc/passwd", "abs") == 0 && holds("abs", "the guest's\n"));
	CHECK(symlink("../../../../../../../../etc/passwd", "up") == 0 &&
		holds("up", "the guest's\n"));
	CHECK(readlink("abs", b, sizeof(b)) == 11);
	CHECK(symlink("nowhere", "dangling") == 0);
	FAILS(open("dangling", O_RDONLY), ENOENT);
	memset(target, 'x', sizeof(target) - 1);
	target[4095] = 0;
	CHECK(symlink(target, "long") == 0);
	CHECK(readlink("long", b, sizeof(b)) == 4095);
	CHECK(lchown("rel", 5, 6) == 0);
	struct stat st;
	CHECK(lstat("rel", &st) == 0 && st.st_uid == 5 && st.st_gid == 6);
	CHECK(stat("rel", &st) == 0 && st.st_uid == 0);
}

void case_mknod(void)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "socket"};
	char c;
	CHECK(mkfifo("fifo", 0600) == 0);
	int fd = open("fifo", O_RDWR);
	CHECK(fd >= 0 && write(fd, "f", 1) == 1 && read(fd, &c, 1) == 1 && c == 'f');
	CHECK(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&a, sizeof(a)) == 0);
	CHECK(S_ISSOCK(mode_of("socket")));
	FAILS(mknod("null", S_IFCHR | 0666, makedev(1, 3)), EPERM);
	FAILS(mknod("disk", S_IFBLK | 0666, makedev(8, 0)), EPERM);
	CHECK(mknod("whiteout", S_IFCHR, 0) == 0);
	/*
	 * If the guest opens a device node that the host has made in the share, it must get its own
	 * device with this number.
	 */
	fd = open("/rw/host-null", O_RDONLY);
	CHECK(fd >= 0 && read(fd, &c, 1) == 0);
	struct stat st;
	CHECK(fstat(fd, &st) == 0 && st.st_rdev == makedev(1, 3));
}

void case_tmpfile(void)
{
	char path[64];
	struct stat st;
	int fd = open(".", O_TMPFILE | O_RDWR, 0640);
	CHECK(fd >= 0);
	CHECK(write(fd, "nameless", 8) == 8 && fstat(fd, &st) == 0 && st.st_nlink == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW) == 0);
	CHECK(holds("named", "nameless") && mode_of("named") == (S_IFREG | 0640));
}

void case_unlink_open(void)
{
	struct stat st;
	char b[8];
	int fd = open("gone", O_CREAT | O_RDWR, 0600);
	CHECK(fd >= 0 && write(fd, "still", 5) == 5 && unlink("gone") == 0);
	FAILS(open("gone", O_RDONLY), ENOENT);
	CHECK(pread(fd, b, 8, 0) == 5 && pwrite(fd, "here", 4, 5) == 4);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 9 && st.st_nlink == 0);
	CHECK(fchmod(fd, 0644) == 0 && ftruncate(fd, 2) == 0 && fstat(fd, &st) == 0);
	CHECK(st.st_size == 2 && st.st_mode == (S_IFREG | 0644));
}

void case_directories(void)
{
	char name[257];
	CHECK(mkdir("d", 0750) == 0 && mode_of("d") == (S_IFDIR | 0750));
	FAILS(mkdir("d", 0750), EEXIST);
	put("d/x", "", 0600);
	FAILS(rmdir("d"), ENOTEMPTY);
	FAILS(unlink("d"), EISDIR);
	FAILS(rmdir("d/x"), ENOTDIR);
	CHECK(unlink("d/x") == 0 && rmdir("d") == 0);
	memset(name, 'n', sizeof(name));
	name[255] = 0;
	CHECK(mkdir(name, 0700) == 0 && rmdir(name) == 0);
	name[255] = 'n';
	name[256] = 0;
	FAILS(mkdir(name, 0700), ENAMETOOLONG);
	int fd = open(".", O_RDONLY | O_DIRECTORY);
	CHECK(fd >= 0 && fsync(fd) == 0);
}

void case_readdir(void)
{
	static bool seen[10000];
	struct dirent *e;
	struct stat st;
	long middle = 0;
	char after[256] = "";
	int n = 0;
	/* the host has made the files in the share's directory "many" */
	DIR *d = opendir("/rw/many");
	CHECK(d);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		int i = atoi(e->d_name + 1);
		CHECK(e->d_name[0] == 'f' && i >= 0 && i < 10000 && !seen[i] &&
			e->d_type == DT_REG);
		seen[i] = true;
		if (n == 5001)
			strcpy(after, e->d_name);
		if (n % 100 == 0)
			CHECK(fstatat(dirfd(d), e->d_name, &st, 0) == 0 && st.st_size == i);
		if (n++ == 5000)
			middle = telldir(d);
	}
	CHECK(n == 10000);
	seekdir(d, middle);
	CHECK((e = readdir(d)) && strcmp(e->d_name, after) == 0);
	rewinddir(d);
	while ((e = readdir(d)))
		if (e->d_name[0] == 'f' && atoi(e->d_name + 1) % 10 == 0)
			CHECK(unlinkat(dirfd(d), e->d_name, 0) == 0);
	closedir(d);
}

/*
 * Lists a directory with a buffer of `size` bytes, and removes it with its files. If the buffer is
 * small, the guest's kernel drops the rest of each reply of the server and asks for it again.
 */
static void remove_all(const char *dir, size_t size)
{
	_Alignas(8) char buffer[4096];
	int fd = open(dir, O_RDONLY | O_DIRECTORY);
	long n;

	CHECK(fd >= 0);
	while ((n = syscall(SYS_getdents64, fd, buffer, size)) > 0) {
		for (long at = 0; at < n;) {
			const struct dirent *d = (const void *)(buffer + at);

			at += d->d_reclen;
			CHECK(d->d_name[0] == '.' || unlinkat(fd, d->d_name, 0) == 0);
		}
	}
	CHECK(n == 0 && close(fd) == 0);
	CHECK(rmdir(dir) == 0);
}

void case_remove_while_reading(void)
{
	remove_all("/rw/crowded/slow", 100);
	remove_all("/rw/crowded/fast", 4096);
}
