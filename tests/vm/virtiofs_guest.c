/* SPDX-License-Identifier: Apache-2.0 */
/*
 * /init of the guest in test_virtiofs.py: loads the modules of /mod, mounts the shares "rw" and
 * "ro", runs each case in a child, and powers off. One line a case on the console: "ok NAME" or
 * "not ok NAME: WHERE".
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/reboot.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

static void fail(int line, const char *what)
{
	dprintf(1, "# line %d: %s: %s\n", line, what, strerror(errno));
	_exit(1);
}

#define CHECK(x) \
	do { \
		errno = 0; \
		if (!(x)) \
			fail(__LINE__, #x); \
	} while (0)
#define FAILS(call, code) CHECK((call) < 0 && errno == (code))

static void put(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, mode);
	CHECK(fd >= 0);
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(close(fd) == 0);
}

static bool holds(const char *path, const char *text)
{
	char b[4096];
	int fd = open(path, O_RDONLY);
	CHECK(fd >= 0);
	ssize_t n = read(fd, b, sizeof(b));
	close(fd);
	return n == (ssize_t)strlen(text) && memcmp(b, text, (size_t)n) == 0;
}

static mode_t mode_of(const char *path)
{
	struct stat st;
	CHECK(lstat(path, &st) == 0);
	return st.st_mode;
}

/* Runs f as another user; its CHECKs count. */
static void as_user(uid_t uid, gid_t gid, gid_t extra, void (*f)(void))
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

static void t_create(void)
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

static void t_append(void)
{
	put("log", "one", 0600);
	int a = open("log", O_WRONLY | O_APPEND), b = open("log", O_WRONLY | O_APPEND);
	CHECK(a >= 0 && b >= 0);
	CHECK(write(a, "two", 3) == 3 && write(b, "three", 5) == 5 && write(a, "four", 4) == 4);
	CHECK(holds("log", "onetwothreefour"));
	/* What fcntl changes later counts too. */
	CHECK(fcntl(a, F_SETFL, 0) == 0 && pwrite(a, "ONE", 3, 0) == 3);
	CHECK(holds("log", "ONEtwothreefour"));
}

static void t_rename(void)
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

static void t_link(void)
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

static void t_symlink(void)
{
	char b[5000], target[4096];
	put("file", "share", 0600);
	CHECK(symlink("file", "rel") == 0 && holds("rel", "share"));
	/* Absolute, and out of the share: the guest's own file, never the host's. */
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

static void t_xattr(void)
{
	char b[4096], value[2000];
	put("file", "", 0600);
	memset(value, 'v', sizeof(value));
	CHECK(setxattr("file", "user.one", "1", 1, XATTR_CREATE) == 0);
	FAILS(setxattr("file", "user.one", "1", 1, XATTR_CREATE), EEXIST);
	FAILS(setxattr("file", "user.two", "2", 1, XATTR_REPLACE), ENODATA);
	CHECK(setxattr("file", "user.two", value, sizeof(value), 0) == 0);
	CHECK(getxattr("file", "user.two", b, sizeof(b)) == sizeof(value));
	CHECK(memcmp(b, value, sizeof(value)) == 0);
	CHECK(getxattr("file", "user.two", NULL, 0) == sizeof(value));
	FAILS(getxattr("file", "user.two", b, 10), ERANGE);
	CHECK(listxattr("file", b, sizeof(b)) == 18);
	CHECK(removexattr("file", "user.one") == 0);
	FAILS(getxattr("file", "user.one", b, sizeof(b)), ENODATA);
	/* The host's own labels are not the guest's. */
	FAILS(setxattr("file", "security.selinux", "x", 1, 0), EOPNOTSUPP);
	FAILS(setxattr("file", "trusted.x", "x", 1, 0), EOPNOTSUPP);
}

static void acl_reader(void)
{
	CHECK(open("shared", O_RDONLY) >= 0);
}

static void acl_stranger(void)
{
	FAILS(open("shared", O_RDONLY), EACCES);
}

static void t_acl(void)
{
	/* user::rw- user:1000:r-- group::--- mask::r-- other::--- */
	static const uint32_t acl[] = {2, 6 << 16 | 1, UINT32_MAX, 4 << 16 | 2, 1000, 0 << 16 | 4,
		UINT32_MAX, 4 << 16 | 0x10, UINT32_MAX, 0 << 16 | 0x20, UINT32_MAX};
	put("shared", "x", 0600);
	CHECK(setxattr("shared", "system.posix_acl_access", acl, sizeof(acl), 0) == 0);
	as_user(1000, 1000, 0, acl_reader);
	as_user(1001, 1001, 0, acl_stranger);
	/* A default one is inherited, and then there is no umask. */
	CHECK(mkdir("dir", 0755) == 0);
	CHECK(setxattr("dir", "system.posix_acl_default", acl, sizeof(acl), 0) == 0);
	umask(077);
	put("dir/file", "", 0666);
	CHECK(mode_of("dir/file") == (S_IFREG | 0640));
}

static int set_lock(int fd, int how, short type, off_t from, off_t len)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = len};
	return fcntl(fd, how, &l);
}

static void t_posix_locks(void)
{
	int to_child[2], status;
	char c;
	put("file", "0123456789", 0600);
	int fd = open("file", O_RDWR);
	CHECK(pipe(to_child) == 0 && fd >= 0);
	CHECK(set_lock(fd, F_SETLK, F_WRLCK, 2, 3) == 0);
	pid_t p = fork();
	if (p == 0) {
		struct flock l = {.l_type = F_WRLCK};
		int own = open("file", O_RDWR);
		FAILS(set_lock(own, F_SETLK, F_WRLCK, 4, 1), EAGAIN);
		CHECK(set_lock(own, F_SETLK, F_WRLCK, 5, 0) == 0);
		CHECK(fcntl(own, F_GETLK, &l) == 0 && l.l_type == F_WRLCK && l.l_start == 2 &&
			l.l_len == 3);
		CHECK(write(to_child[1], "x", 1) == 1);
		/* Waits until the parent lets go, which it does after having seen that we wait. */
		CHECK(set_lock(own, F_SETLKW, F_WRLCK, 0, 0) == 0);
		CHECK(holds("file", "released!!"));
		_exit(0);
	}
	CHECK(read(to_child[0], &c, 1) == 1);
	FAILS(set_lock(fd, F_SETLK, F_RDLCK, 7, 1), EAGAIN);
	usleep(100000);
	CHECK(waitpid(p, &status, WNOHANG) == 0);
	CHECK(pwrite(fd, "released!!", 10, 0) == 10);
	/* close of any descriptor of the file lets go of all the process holds, as POSIX has it. */
	CHECK(close(open("file", O_RDONLY)) == 0);
	CHECK(waitpid(p, &status, 0) == p && status == 0);
	CHECK(set_lock(fd, F_SETLK, F_WRLCK, 0, 0) == 0);
}

static void t_flock(void)
{
	int status;
	put("file", "", 0600);
	int fd = open("file", O_RDONLY), other = open("file", O_RDONLY);
	CHECK(flock(fd, LOCK_EX) == 0);
	FAILS(flock(other, LOCK_SH | LOCK_NB), EAGAIN);
	pid_t p = fork();
	if (p == 0) {
		int own = open("file", O_RDONLY);
		CHECK(flock(own, LOCK_EX) == 0);
		_exit(0);
	}
	usleep(100000);
	CHECK(waitpid(p, &status, WNOHANG) == 0);
	CHECK(flock(fd, LOCK_UN) == 0);
	CHECK(waitpid(p, &status, 0) == p && status == 0);
	CHECK(flock(other, LOCK_SH | LOCK_NB) == 0);
}

static void t_mmap(void)
{
	int fd = open("mapped", O_CREAT | O_RDWR, 0600);
	char b[8192];
	CHECK(fd >= 0 && ftruncate(fd, 3 * 4096) == 0);
	char *m = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(m != MAP_FAILED);
	memset(m + 4000, 'm', 5000);
	CHECK(msync(m, 3 * 4096, MS_SYNC) == 0);
	CHECK(pread(fd, b, 5000, 4000) == 5000);
	CHECK(memcmp(m + 4000, b, 5000) == 0);
	CHECK(pwrite(fd, "w", 1, 0) == 1 && m[0] == 'w');
	CHECK(munmap(m, 3 * 4096) == 0);
	/* Of a file that is open for appending, mapped pages are still written where they belong.
	 */
	int app = open("mapped", O_RDWR | O_APPEND);
	m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, app, 0);
	CHECK(m != MAP_FAILED);
	m[1] = 'x';
	CHECK(msync(m, 4096, MS_SYNC) == 0);
	struct stat st;
	CHECK(fstat(fd, &st) == 0 && st.st_size == 3 * 4096);
}

static void t_large(void)
{
	static char block[1 << 20];
	int fd = open("large", O_CREAT | O_RDWR, 0600);
	CHECK(fd >= 0);
	for (int i = 0; i < 32; i++) {
		memset(block, i + 1, sizeof(block));
		CHECK(write(fd, block, sizeof(block)) == sizeof(block));
	}
	CHECK(fsync(fd) == 0 && fdatasync(fd) == 0 && syncfs(fd) == 0);
	CHECK(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0);
	for (int i = 31; i >= 0; i--) {
		CHECK(pread(fd, block, sizeof(block), (off_t)i << 20) == sizeof(block));
		CHECK(block[0] == i + 1 && block[sizeof(block) - 1] == i + 1);
	}
}

static void t_sparse(void)
{
	struct stat st;
	const off_t at = (INT64_C(5) << 30) + 4096;
	char b[4] = "xxx";
	int fd = open("sparse", O_CREAT | O_RDWR, 0600);
	CHECK(fd >= 0 && pwrite(fd, "end", 3, at) == 3 && fsync(fd) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_size == at + 3 && st.st_blocks < 1000);
	CHECK(lseek(fd, 0, SEEK_DATA) == at);
	CHECK(lseek(fd, 0, SEEK_HOLE) == 0);
	CHECK(pread(fd, b, 3, 1 << 30) == 3 && memcmp(b, "\0\0\0", 3) == 0);
	CHECK(ftruncate(fd, 10) == 0);
	FAILS(lseek(fd, 0, SEEK_DATA), ENXIO);
	FAILS(lseek(fd, 20, SEEK_DATA), ENXIO);
}

static void t_fallocate(void)
{
	struct stat st;
	char b[4096];
	int fd = open("space", O_CREAT | O_RDWR, 0600);
	CHECK(fd >= 0 && fallocate(fd, 0, 0, 1 << 20) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 1 << 20 && st.st_blocks >= 2048);
	CHECK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 1 << 20, 4096) == 0);
	CHECK(fstat(fd, &st) == 0 && st.st_size == 1 << 20);
	memset(b, 'x', sizeof(b));
	CHECK(pwrite(fd, b, sizeof(b), 8192) == sizeof(b));
	CHECK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 8192, 4096) == 0);
	CHECK(pread(fd, b, sizeof(b), 8192) == sizeof(b) && b[0] == 0 && b[4095] == 0);
}

static void t_copy_range(void)
{
	put("from", "0123456789", 0600);
	int a = open("from", O_RDONLY), b = open("to", O_CREAT | O_RDWR, 0600);
	off_t x = 2, y = 1;
	CHECK(a >= 0 && b >= 0);
	CHECK(copy_file_range(a, &x, b, &y, 5, 0) == 5);
	char c[8];
	CHECK(pread(b, c, 8, 0) == 6 && memcmp(c, "\00023456", 6) == 0);
}

static void t_tmpfile(void)
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

static void t_unlink_open(void)
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

static void t_directories(void)
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

static void t_readdir(void)
{
	static bool seen[10000];
	struct dirent *e;
	struct stat st;
	long middle = 0;
	char after[256] = "";
	int n = 0;
	DIR *d = opendir("/rw/many"); /* the host's */
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

static void user_denied(void)
{
	FAILS(open("private", O_RDONLY), EACCES);
	FAILS(open("root-dir/x", O_CREAT | O_WRONLY, 0600), EACCES);
	FAILS(unlink("private"), EACCES);
	FAILS(chmod("private", 0777), EPERM);
	FAILS(chown("private", 1000, 1000), EPERM);
	FAILS(unlink("open/root-file"), EPERM); /* sticky */
	put("open/mine", "x", 0644);
	CHECK(mkdir("open/dir", 0700) == 0 && symlink("x", "open/link") == 0);
	FAILS(chown("open/mine", 0, 0), EPERM);
}

static void user_in_group(void)
{
	struct stat st;
	put("group/file", "x", 0660);
	CHECK(stat("group/file", &st) == 0 && st.st_uid == 1000 && st.st_gid == 2000);
	CHECK(mkdir("group/dir", 0770) == 0);
	CHECK(stat("group/dir", &st) == 0 && (st.st_mode & S_ISGID) && st.st_gid == 2000);
}

static void t_permissions(void)
{
	struct stat st;
	CHECK(chmod(".", 0755) == 0);
	put("private", "x", 0600);
	CHECK(mkdir("root-dir", 0755) == 0 && mkdir("open", 0777) == 0 &&
		chmod("open", 01777) == 0);
	put("open/root-file", "x", 0600);
	CHECK(mkdir("group", 0770) == 0 && chown("group", 0, 2000) == 0 &&
		chmod("group", 02770) == 0);
	as_user(1000, 1000, 0, user_denied);
	CHECK(lstat("open/mine", &st) == 0 && st.st_uid == 1000 && st.st_gid == 1000);
	CHECK(lstat("open/link", &st) == 0 && st.st_uid == 1000);
	/* A supplementary group, of which the request does not tell. */
	as_user(1000, 1000, 2000, user_in_group);
	umask(027);
	put("masked", "", 0666);
	CHECK(mkdir("masked-dir", 0777) == 0);
	CHECK(mode_of("masked") == (S_IFREG | 0640) && mode_of("masked-dir") == (S_IFDIR | 0750));
}

static void user_writes(void)
{
	int fd = open("set-id", O_WRONLY);
	CHECK(fd >= 0 && write(fd, "x", 1) == 1);
}

static void user_truncates(void)
{
	CHECK(truncate("set-id", 0) == 0);
}

static void t_set_id(void)
{
	put("set-id", "x", 0600);
	for (int i = 0; i < 2; i++) {
		CHECK(chown("set-id", 1000, 1000) == 0 && chmod("set-id", 06777) == 0);
		CHECK(mode_of("set-id") == (S_IFREG | 06777));
		as_user(1000, 1000, 0, i ? user_truncates : user_writes);
		CHECK(mode_of("set-id") == (S_IFREG | 0777));
	}
	CHECK(chmod("set-id", 06777) == 0 && chown("set-id", 1001, 1001) == 0);
	CHECK(mode_of("set-id") == (S_IFREG | 0777));
}

static void t_mknod(void)
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
	/* A device that the host has put there is the guest's device of that number. */
	fd = open("/rw/host-null", O_RDONLY);
	CHECK(fd >= 0 && read(fd, &c, 1) == 0);
	struct stat st;
	CHECK(fstat(fd, &st) == 0 && st.st_rdev == makedev(1, 3));
}

static void t_times(void)
{
	struct timespec t[2] = {{1000000001, 123456789}, {-5, 987654321}};
	struct stat st;
	put("file", "", 0600);
	CHECK(utimensat(AT_FDCWD, "file", t, 0) == 0 && stat("file", &st) == 0);
	CHECK(st.st_atim.tv_sec == 1000000001 && st.st_atim.tv_nsec == 123456789);
	CHECK(st.st_mtim.tv_sec == -5 && st.st_mtim.tv_nsec == 987654321);
	t[0].tv_nsec = UTIME_OMIT;
	t[1].tv_nsec = UTIME_NOW;
	CHECK(utimensat(AT_FDCWD, "file", t, 0) == 0 && stat("file", &st) == 0);
	CHECK(st.st_atim.tv_sec == 1000000001 && st.st_mtim.tv_sec > 1700000000);
}

static void t_statfs(void)
{
	struct statvfs v;
	CHECK(statvfs(".", &v) == 0 && v.f_bsize >= 512 && v.f_blocks > 0 && v.f_namemax == 255);
}

static void t_submount(void)
{
	struct stat a, b;
	put("/rw/mounted/guest", "x", 0600);
	CHECK(stat("/rw", &a) == 0 && stat("/rw/mounted/guest", &b) == 0);
	CHECK(a.st_dev != b.st_dev);
	FAILS(rename("/rw/mounted/guest", "moved"), EXDEV);
	CHECK(holds("/rw/mounted/host", "under"));
}

static void t_programs(void)
{
	/* The program itself is read, mapped and executed from the share. */
	CHECK(system("set -e; cp /bin/busybox .; b=./busybox; chmod 755 $b; mkdir -p t/a/b/c; "
		     "for i in 1 2 3 4 5 6 7 8 9; do echo $i >t/a/b/f$i; ln -s f$i t/a/b/l$i; "
		     "done; "
		     "ln t/a/b/f1 t/a/hard; $b tar cf t.tar t; mkdir u; $b tar xf t.tar -C u; "
		     "$b diff -r t u/t; $b cp -a u/t v; $b test \"$($b find v | $b wc -l)\" = 23; "
		     "$b cmp $b /bin/busybox; $b rm -rf t u; ! $b test -e u") == 0);
}

static void t_read_only(void)
{
	CHECK(holds("/ro/file", "read only"));
	/* Mounted read-write in the guest, which can't help it. */
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

/* The host answers "host-1" on the console by writing the file, and so on. */
static void t_host_changes(void)
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
	{"create", t_create},
	{"append", t_append},
	{"rename", t_rename},
	{"link", t_link},
	{"symlink", t_symlink},
	{"xattr", t_xattr},
	{"acl", t_acl},
	{"posix_locks", t_posix_locks},
	{"flock", t_flock},
	{"mmap", t_mmap},
	{"large", t_large},
	{"sparse", t_sparse},
	{"fallocate", t_fallocate},
	{"copy_range", t_copy_range},
	{"tmpfile", t_tmpfile},
	{"unlink_open", t_unlink_open},
	{"directories", t_directories},
	{"readdir", t_readdir},
	{"permissions", t_permissions},
	{"set_id", t_set_id},
	{"mknod", t_mknod},
	{"times", t_times},
	{"statfs", t_statfs},
	{"submount", t_submount},
	{"programs", t_programs},
	{"read_only", t_read_only},
	{"host_changes", t_host_changes},
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
	/* PID 1 must not end, so that what fails is said. */
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
