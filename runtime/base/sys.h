/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wraps system calls that glibc 2.36 does not wrap. Like glibc's wrappers, these functions return
 * -1 and set errno on failure.
 */
#pragma once
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int sys_openat2(
	int dirfd, const char *path, uint64_t flags, uint64_t mode, uint64_t resolve)
{
	struct open_how how = {.flags = flags, .mode = mode, .resolve = resolve};

	return (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
}

/*
 * Calls clone3(2) without CLONE_VM and without a stack, so the function returns twice, as fork(2)
 * does: in the parent and in the child. pthread_atfork handlers do not run. The child of a
 * single-threaded parent may call any function.
 */
static inline pid_t sys_clone3(struct clone_args *args)
{
	return (pid_t)syscall(SYS_clone3, args, sizeof(*args));
}

static inline int sys_pivot_root(const char *new_root, const char *put_old)
{
	return (int)syscall(SYS_pivot_root, new_root, put_old);
}

#ifndef OPEN_TREE_NAMESPACE
#define OPEN_TREE_NAMESPACE 2u /* flag of open_tree(2), in the kernel since Linux 7.0 */
#endif

/*
 * Returns whether open_tree(2) knows OPEN_TREE_NAMESPACE and this process may use the flag. The
 * test is a call of open_tree(2) with a bad descriptor: it fails with EBADF if the kernel knows the
 * flag, and with another error if the kernel does not. The answer is not stored, because the call
 * costs less than a microsecond.
 */
static inline bool sys_has_tree_namespace(void)
{
	const unsigned flags = OPEN_TREE_NAMESPACE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH;

	return open_tree(-EBADF, "", flags) < 0 && errno == EBADF;
}

/*
 * Returns whether this process is in a user namespace other than the initial one, whose inode is
 * always PROC_USER_INIT_INO (linux/proc_ns.h). The id map is no evidence, because since systemd 260
 * a service may have a user namespace of its own that maps all ids to themselves.
 */
static inline bool sys_in_userns(void)
{
	struct stat st;

	return stat("/proc/self/ns/user", &st) == 0 && st.st_ino != 0xeffffffd;
}
