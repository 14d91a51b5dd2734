/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. For root the attribute is trusted.caisson.backing-directory, which only a
 * process with CAP_SYS_ADMIN in the initial user namespace can set. An ordinary user has only
 * attributes whose names begin with "user.", and a container of this user can set them too on files
 * that it shares with the host. So the value begins with a message authentication code by a key
 * that is in the user's data directory, out of the container's sight. The code covers the
 * directory, and the inode number and birth time of the file, so that a copy of the code is wrong
 * for any other file.
 */
#include "disk/remember.h"

#include <fcntl.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/data_dir.h"
#include "base/fd.h"
#include "base/sys.h"

#define XATTR "caisson.backing-directory"
#define KEY_FILE "backing.key" /* in the user's data directory */
enum {
	KEY_SIZE = 32,
	CODE_SIZE = SHA256_DIGEST_LENGTH,
};

/*
 * Makes the file with the key, unless another process does it at the same time. The file gets its
 * name only when it is complete, so that no process reads a part of a key.
 */
static int make_key(int dir)
{
	uint8_t key[KEY_SIZE];
	char name[FD_TMP_MAX];

	if (getrandom(key, sizeof(key), 0) != sizeof(key))
		return err_sys("get random bytes");
	_cleanup_fd_ int fd = fd_open_temporary(dir, KEY_FILE, 0600, name);
	if (fd < 0)
		return fd;
	int r = fd_write_all(fd, key, sizeof(key));
	if (r >= 0 && linkat(dir, name, dir, KEY_FILE, 0) < 0 && errno != EEXIST)
		r = err_sys("make " KEY_FILE);
	unlinkat(dir, name, 0);
	return r;
}

/*
 * Reads the user's key. If `make` is set and there is none, makes one. Returns a negative number if
 * there is no key, or one that others may have written or read.
 */
static int read_key(uint8_t key[static KEY_SIZE], bool make)
{
	char path[PATH_MAX];
	struct stat st;

	int r = data_dir_of_user(path, sizeof(path));
	if (r >= 0 && make)
		r = data_dir_make(path);
	if (r < 0)
		return r;
	_cleanup_fd_ int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	_cleanup_fd_ int fd = openat(dir, KEY_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT && make) {
		r = make_key(dir);
		if (r < 0)
			return r;
		fd = openat(dir, KEY_FILE, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	}
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid() || (st.st_mode & 077))
		return -EPERM;
	return read(fd, key, KEY_SIZE) == KEY_SIZE ? 0 : -EIO;
}

/* Computes the code of a directory for the file at `path`. */
static int compute(
	const char *path, const char *directory, bool make, uint8_t ret[static CODE_SIZE])
{
	char text[PATH_MAX + 100];
	uint8_t key[KEY_SIZE];
	struct statx st;

	if (statx(AT_FDCWD, path, 0, STATX_INO | STATX_BTIME | STATX_UID, &st) < 0)
		return -errno;
	if (!(st.stx_mask & STATX_BTIME) || st.stx_uid != geteuid())
		return -EPERM;
	int n = snprintf(text, sizeof(text), "%llu %lld.%09u %s", (unsigned long long)st.stx_ino,
		(long long)st.stx_btime.tv_sec, st.stx_btime.tv_nsec, directory);
	if (n >= (int)sizeof(text))
		return -ENAMETOOLONG;
	int r = read_key(key, make);
	if (r >= 0 &&
		!HMAC(EVP_sha256(), key, sizeof(key), (const uint8_t *)text, (size_t)n, ret, NULL))
		r = -EIO;
	OPENSSL_cleanse(key, sizeof(key));
	return r;
}

/*
 * Says whether the process acts for an ordinary user. The server of a disk is root of a user
 * namespace of that user then (engine/disk_process.c).
 */
static bool is_of_user(void)
{
	return geteuid() != 0 || sys_in_userns();
}

static char *get_as_user(const char *path)
{
	char value[CODE_SIZE + PATH_MAX];
	uint8_t code[CODE_SIZE];

	ssize_t n = getxattr(path, "user." XATTR, value, sizeof(value) - 1);
	if (n <= CODE_SIZE)
		return NULL;
	value[n] = '\0';
	if (compute(path, value + CODE_SIZE, false, code) < 0 ||
		CRYPTO_memcmp(code, value, CODE_SIZE) != 0)
		return NULL;
	return strdup(value + CODE_SIZE);
}

char *remember_get(const char *path)
{
	char value[PATH_MAX];

	if (is_of_user())
		return get_as_user(path);
	ssize_t n = getxattr(path, "trusted." XATTR, value, sizeof(value) - 1);
	if (n <= 0 || value[0] != '/')
		return NULL;
	value[n] = '\0';
	return strdup(value);
}

void remember_set(const char *path, const char *directory)
{
	char value[CODE_SIZE + PATH_MAX];
	size_t len = strlen(directory);

	if (!is_of_user()) {
		(void)setxattr(path, "trusted." XATTR, directory, len, 0);
		return;
	}
	if (len >= PATH_MAX || compute(path, directory, true, (uint8_t *)value) < 0)
		return;
	memcpy(value + CODE_SIZE, directory, len);
	(void)setxattr(path, "user." XATTR, value, CODE_SIZE + len, 0);
}
