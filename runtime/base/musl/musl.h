/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares what the rest of the tree uses and musl, the C library of caisson and caisson-init,
 * lacks: version 1.2.3 in Debian 12, and 1.2.5 in Debian 13. The build with musl includes this file
 * in front of every source (-include); nothing else includes it. Each part is left out if the C
 * library has it already.
 */
#pragma once

/*
 * musl 1.2.5 has a struct statx without the newer fields, such as stx_mnt_id. These names hide that
 * struct and its function, so that those below take their place.
 */
#define statx musl_statx
#define statx_timestamp musl_statx_timestamp
#include <sys/stat.h>
#undef statx
#undef statx_timestamp

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef __GLIBC__

/* What follows is in <sys/mount.h> of glibc 2.36 and not in musl: the new mount API. */

#ifndef OPEN_TREE_CLONE
#include <linux/mount.h>

static inline int open_tree(int dirfd, const char *path, unsigned flags)
{
	return (int)syscall(SYS_open_tree, dirfd, path, flags);
}

static inline int move_mount(
	int from_dirfd, const char *from, int to_dirfd, const char *to, unsigned flags)
{
	return (int)syscall(SYS_move_mount, from_dirfd, from, to_dirfd, to, flags);
}

static inline int mount_setattr(
	int dirfd, const char *path, unsigned flags, struct mount_attr *attr, size_t size)
{
	return (int)syscall(SYS_mount_setattr, dirfd, path, flags, attr, size);
}

static inline int fsopen(const char *name, unsigned flags)
{
	return (int)syscall(SYS_fsopen, name, flags);
}

static inline int fsconfig(int fd, unsigned cmd, const char *key, const void *value, int aux)
{
	return (int)syscall(SYS_fsconfig, fd, cmd, key, value, aux);
}

static inline int fsmount(int fd, unsigned flags, unsigned attrs)
{
	return (int)syscall(SYS_fsmount, fd, flags, attrs);
}

static inline int fspick(int dirfd, const char *path, unsigned flags)
{
	return (int)syscall(SYS_fspick, dirfd, path, flags);
}
#endif

/* What follows are constants and calls for files that glibc has and musl 1.2.3 lacks. */

#include <linux/stat.h>

static inline int statx(int dirfd, const char *path, int flags, unsigned mask, struct statx *ret)
{
	return (int)syscall(SYS_statx, dirfd, path, flags, mask, ret);
}

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE (1 << 0)
#define RENAME_EXCHANGE (1 << 1)
#define RENAME_WHITEOUT (1 << 2)

static inline int renameat2(
	int from_dirfd, const char *from, int to_dirfd, const char *to, unsigned flags)
{
	return (int)syscall(SYS_renameat2, from_dirfd, from, to_dirfd, to, flags);
}
#endif

#ifndef RWF_NOWAIT
#define RWF_HIPRI 0x00000001
#define RWF_DSYNC 0x00000002
#define RWF_SYNC 0x00000004
#define RWF_NOWAIT 0x00000008
#define RWF_APPEND 0x00000010

/*
 * The system call gets the offset as two numbers, because the kernel takes the offset as two
 * machine words.
 */
static inline ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	return syscall(
		SYS_preadv2, fd, iov, n, (long)offset, (long)((uint64_t)offset >> 32), flags);
}

static inline ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
	return syscall(
		SYS_pwritev2, fd, iov, n, (long)offset, (long)((uint64_t)offset >> 32), flags);
}
#endif

static inline int scandirat(int dirfd, const char *path, struct dirent ***ret,
	int (*filter)(const struct dirent *),
	int (*compare)(const struct dirent **, const struct dirent **))
{
	char name[PATH_MAX];

	if (snprintf(name, sizeof(name), "/proc/self/fd/%d/%s", dirfd, path) >= (int)sizeof(name)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return scandir(name, ret, filter, compare);
}

/* What follows are calls for processes and signals that glibc has and musl 1.2.3 lacks. */

static inline int execveat(
	int dirfd, const char *path, char *const argv[], char *const envp[], int flags)
{
	return (int)syscall(SYS_execveat, dirfd, path, argv, envp, flags);
}

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

static inline int close_range(unsigned first, unsigned last, int flags)
{
	return (int)syscall(SYS_close_range, first, last, flags);
}

/*
 * In glibc's <sys/resource.h>, __rlimit_resource is the type of the number that names a resource
 * (RLIMIT_*).
 */
#define __rlimit_resource caisson_rlimit_resource
enum caisson_rlimit_resource { CAISSON_RLIMIT_LARGEST = 255 };

/* Returns the name of a signal without "SIG", or NULL if the signal has no name. */
static inline const char *sigabbrev_np(int sig)
{
	static const char *const names[] = {NULL, "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT",
		"BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
		"CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM",
		"PROF", "WINCH", "POLL", "PWR", "SYS"};

	return sig > 0 && sig < 32 ? names[sig] : NULL;
}

#endif
