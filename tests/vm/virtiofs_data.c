/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cases of virtiofs_guest.c about the content of files in a share: locks, mappings, large and
 * sparse files.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "virtiofs_guest.h"

static int set_lock(int fd, int how, short type, off_t from, off_t len)
{
	struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = from, .l_len = len};
	return fcntl(fd, how, &l);
}

void case_posix_locks(void)
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
			l.l_len == 3 && l.l_pid == getppid());
		CHECK(write(to_child[1], "x", 1) == 1);
		/*
		 * Waits for the lock on the whole file. The parent process releases its lock when
		 * it has seen that this process waits.
		 */
		CHECK(set_lock(own, F_SETLKW, F_WRLCK, 0, 0) == 0);
		CHECK(holds("file", "released!!"));
		_exit(0);
	}
	CHECK(read(to_child[0], &c, 1) == 1);
	FAILS(set_lock(fd, F_SETLK, F_RDLCK, 7, 1), EAGAIN);
	usleep(100000);
	CHECK(waitpid(p, &status, WNOHANG) == 0);
	CHECK(pwrite(fd, "released!!", 10, 0) == 10);
	/*
	 * Closing any descriptor of the file must release all locks that the process has on the
	 * file, as POSIX demands.
	 */
	CHECK(close(open("file", O_RDONLY)) == 0);
	CHECK(waitpid(p, &status, 0) == p && status == 0);
	CHECK(set_lock(fd, F_SETLK, F_WRLCK, 0, 0) == 0);
}

void case_flock(void)
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

void case_mmap(void)
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
	/*
	 * The kernel must write the pages of a mapped file to their own offset, even if the file is
	 * also open for appending.
	 */
	int app = open("mapped", O_RDWR | O_APPEND);
	m = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, app, 0);
	CHECK(m != MAP_FAILED);
	m[1] = 'x';
	CHECK(msync(m, 4096, MS_SYNC) == 0);
	struct stat st;
	CHECK(fstat(fd, &st) == 0 && st.st_size == 3 * 4096);
}

void case_large(void)
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

void case_sparse(void)
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

void case_fallocate(void)
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

void case_copy_range(void)
{
	put("from", "0123456789", 0600);
	int a = open("from", O_RDONLY), b = open("to", O_CREAT | O_RDWR, 0600);
	off_t x = 2, y = 1;
	CHECK(a >= 0 && b >= 0);
	CHECK(copy_file_range(a, &x, b, &y, 5, 0) == 5);
	char c[8];
	CHECK(pread(b, c, 8, 0) == 6 && memcmp(c, "\00023456", 6) == 0);
}
