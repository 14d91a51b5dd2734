/* SPDX-License-Identifier: Apache-2.0 */
#include "images/guest/cache.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <time.h>

#include "base/data_dir.h"
#include "base/dir.h"
#include "base/fd.h"

#define LOCK_POLL_MS 10

/*
 * Computes the hash FNV-1a of the key, with 128 bits. The hash only has to avoid accidental
 * collisions, because a user who can choose what goes into an entry is root in the guest anyway.
 */
void cache_name(const char *prefix, const struct strbuf *key, char ret[static CACHE_NAME_SIZE])
{
	const unsigned __int128 prime = (unsigned __int128)1 << 88 | 0x13b;
	unsigned __int128 h = (unsigned __int128)0x6c62272e07bb0142 << 64 | 0x62b821756295c58d;

	for (size_t i = 0; i < key->len; i++)
		h = (h ^ (unsigned char)key->s[i]) * prime;
	snprintf(ret, CACHE_NAME_SIZE, "%s%016" PRIx64 "%016" PRIx64, prefix, (uint64_t)(h >> 64),
		(uint64_t)h);
}

int cache_key_stat(struct strbuf *key, const char *name, const struct stat *st)
{
	return strbuf_addf(key, "%s %ju:%ju %jd %jd.%09ld %jd.%09ld\n", name, (uintmax_t)st->st_dev,
		(uintmax_t)st->st_ino, (intmax_t)st->st_size, (intmax_t)st->st_mtim.tv_sec,
		st->st_mtim.tv_nsec, (intmax_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

static bool is_ours(const struct stat *st)
{
	return st->st_uid == geteuid() && !(st->st_mode & (S_IWGRP | S_IWOTH));
}

int cache_open_entry(int dir, const char *name)
{
	_cleanup_fd_ int fd =
		openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) && is_ours(&st) && st.st_size > 0 ? take_fd(&fd) : -EPERM;
}

int cache_open(const char *path)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT) {
		int r = data_dir_make(path);
		if (r < 0)
			return r;
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (fd < 0)
		return err_sys("open %s", path);
	if (fstat(fd, &st) == 0 && is_ours(&st))
		return fd;
	close(fd);
	return err_set(EPERM,
		"%s belongs to user %u with mode %04o: expected user %u and a mode that lets "
		"nobody else write",
		path, (unsigned)st.st_uid, (unsigned)(st.st_mode & 07777), (unsigned)geteuid());
}

int cache_lock(int dir, const char *name, int wait_ms)
{
	const struct timespec pause = {.tv_nsec = LOCK_POLL_MS * 1000000};
	_cleanup_fd_ int fd =
		openat(dir, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);

	if (fd < 0)
		return err_sys("open its lock");
	for (int waited = 0;; waited += LOCK_POLL_MS) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return take_fd(&fd);
		if (errno != EWOULDBLOCK && errno != EINTR)
			return err_sys("lock it");
		if (waited >= wait_ms)
			return err_set(ETIMEDOUT, "another process holds its lock for %d s",
				wait_ms / 1000);
		nanosleep(&pause, NULL);
	}
}

void cache_drop_old(int dir, const char *prefix, size_t kept)
{
	for (;;) {
		DIR *d = dir_take_fd(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		struct timespec oldest = {0};
		char name[CACHE_NAME_SIZE] = "";
		struct dirent *e;
		struct stat st;
		size_t n = 0;

		if (!d)
			return;
		while ((e = readdir(d))) {
			if (!str_starts(e->d_name, prefix) || strlen(e->d_name) >= sizeof(name) ||
				(str_ends(e->d_name, CACHE_TMP) &&
					unlinkat(dir, e->d_name, 0) == 0) ||
				fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
				continue;
			if (n++ == 0 || st.st_mtim.tv_sec < oldest.tv_sec ||
				(st.st_mtim.tv_sec == oldest.tv_sec &&
					st.st_mtim.tv_nsec < oldest.tv_nsec)) {
				oldest = st.st_mtim;
				strcpy(name, e->d_name);
			}
		}
		closedir(d);
		if (n <= kept || unlinkat(dir, name, 0) < 0)
			return;
	}
}
