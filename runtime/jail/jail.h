/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail of the monitor, in which the monitor can only use the descriptors that it already has.
 * Other processes of a microVM use some of these functions for jails of their own.
 *
 * 	fd_close_all_but(keep, n)       first, so that no inherited descriptor stays open
 * 	... opens files, forks, builds the machine, with one thread ...
 * 	jail_enter(&j, children, n)     for the whole process
 * 	... starts threads ...
 * 	jail_enter_thread(&j, kind)     in each thread, and at last in the first one
 *
 * The order matters, because each thread has its own rights and its own filter, and the threads
 * that it starts later inherit them.
 */
#pragma once
#include <linux/filter.h>
#include <sys/types.h>

#include "base/err.h"

/*
 * JAIL_HAS_FILTERS is 0 in a build with sanitizers, because the sanitizers' runtimes make other
 * system calls with each compiler.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define JAIL_HAS_FILTERS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define JAIL_HAS_FILTERS 0
#endif
#endif
#ifndef JAIL_HAS_FILTERS
#define JAIL_HAS_FILTERS 1
#endif

enum jail_thread {
	JAIL_LOOP, /* the thread with the monitor's event loop */
	/*
	 * the thread that serves the devices; with QEMU it serves only vsock and relays the streams
	 */
	JAIL_DEVICES,
	JAIL_VCPU, /* a thread that runs a vCPU */
	JAIL_THREADS
};

struct jail {
	/*
	 * system call filter of each kind of thread; a zeroed entry: this kind of thread has no
	 * filter
	 */
	struct sock_fprog filters[JAIL_THREADS];
};

/*
 * Returns the user id and group id as which this monitor and its children run. If root started the
 * monitor, no other monitor has the same id, because the id contains the monitor's pid. The range
 * of these ids is unused in systemd's list of ids (systemd.io/UIDS-GIDS).
 *
 * The user namespace of an ordinary user does not map that id. There the id is taken from the upper
 * half of the largest range of ids that is mapped, because these are ids of /etc/subuid by which
 * the user neither owns files nor runs programs. Two monitors of the same user have the same id if
 * their pids differ by a multiple of half of that range's size: by a multiple of 32768 for the
 * usual 65536 ids. If only single ids are mapped, the result is an id that is not mapped.
 */
uid_t jail_id(pid_t monitor);

/*
 * Computes jail_id() from the text of a uid_map whose ids are those of the caller's user namespace.
 * The function is declared here for the unit tests.
 */
uid_t jail_choose_id(const char *uid_map, pid_t monitor);

/*
 * Gives up all capabilities for good, and changes to the user and group `id`. In a user namespace
 * that does not map the id, the process keeps its user and its group.
 */
int jail_drop_rights(uid_t id) must_check;

/*
 * Forbids by Landlock: TCP, connecting to abstract Unix sockets of other processes, and, unless
 * `files` is set, opening any file by name. The caller must call jail_drop_rights() before. Does
 * nothing if the kernel lacks Landlock.
 */
int jail_landlock(bool files) must_check;

/*
 * Forbids core dumps and locked memory, and limits the number of the process's descriptors to
 * `files`.
 */
int jail_limit(unsigned files) must_check;

/*
 * Makes a new mount namespace and attaches `root`, a detached mount, over the root directory of the
 * namespace. The caller can then mount parts of the host's tree in `root`, until path_pivot()
 * detaches everything but `root`.
 */
int jail_attach_root(int root) must_check;

/* Replaces the root directory of the process by an empty directory that cannot be written to. */
int jail_empty_root(void) must_check;

/*
 * Flags of jail_filter_calls() (filter.c). Each one allows calls beyond those in the list `calls`.
 */
#define JAIL_MEMORY 1u       /* allow mmap(2) and mprotect(2), but no executable memory */
#define JAIL_THREADS_OF_C 2u /* allow clone(2) of a thread, as pthread_create() calls it */

/*
 * Allows this thread, and those that it starts later, only the `n` system calls in `calls`, and
 * those of the flags JAIL_MEMORY and JAIL_THREADS_OF_C. At any other call the kernel kills the
 * process. If `calls` contains tgkill(2), tkill(2) or fcntl(2), the process still cannot send
 * signals to other processes.
 */
int jail_filter_calls(const int *calls, size_t n, unsigned flags) must_check;

/*
 * Puts the whole monitor into its jail. `children` are the n child processes that the monitor may
 * still kill, besides itself.
 */
int jail_enter(struct jail *ret, const pid_t *children, size_t n) must_check;
int jail_enter_thread(const struct jail *j, enum jail_thread kind) must_check;
void jail_release(struct jail *j);

/*
 * Compiles the system call filters of all kinds of threads (calls.c). `killable` are the n
 * processes that the monitor may kill besides itself.
 */
int jail_compile(struct jail *j, const pid_t *killable, size_t n) must_check;
