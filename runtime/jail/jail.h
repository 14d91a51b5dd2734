/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The jail of the monitor. In it, the monitor can only use the descriptors that it has already.
 *
 *	fd_close_all_but(keep, n)       first, so that nothing inherited stays open
 *	... opens files, forks, builds the machine, with one thread ...
 *	jail_enter(&j, children, n)     for the whole process
 *	... starts threads ...
 *	jail_enter_thread(&j, kind)     in each thread, and at last in the first one
 *
 * The order matters, because a thread has its rights and its filter to itself, and threads that it
 * starts later inherit them.
 */
#pragma once
#include <linux/filter.h>
#include <sys/types.h>

#include "base/err.h"

enum jail_thread {
	JAIL_LOOP,    /* the monitor's event loop */
	JAIL_DEVICES, /* serves the devices; beside QEMU only vsock and the relay */
	JAIL_VCPU,    /* runs a vCPU */
	JAIL_THREADS
};

struct jail {
	struct sock_fprog filters[JAIL_THREADS]; /* system call filters; zeroed: there is none */
};

/*
 * Gives a child process standard streams of its own, because it must not keep the container's open.
 * errors becomes its standard error; -EBADF: /dev/null does.
 */
int jail_leave_streams(int errors) must_check;

/*
 * The number of the user and the group that this monitor and its children run as. No other monitor
 * has it, because it contains the monitor's pid. The range is unused in systemd's list of ids
 * (systemd.io/UIDS-GIDS).
 */
uid_t jail_id(pid_t monitor);

/*
 * Gives up all capabilities for good, and becomes user and group `id`. In a user namespace that
 * does not map the id, the user stays as it is.
 */
int jail_drop_rights(uid_t id) must_check;

/*
 * Forbids, by Landlock, TCP and connecting to abstract Unix sockets of other processes, and unless
 * `files` every access to a file by name. To be called after jail_drop_rights(). Does nothing if
 * the kernel lacks Landlock.
 */
int jail_landlock(bool files) must_check;

/* Forbids core dumps and locked memory, and allows `files` descriptors at most. */
int jail_limit(unsigned files) must_check;

/*
 * Makes a new mount namespace and attaches `root`, a detached mount, over its root. The caller can
 * then mount parts of the host's tree in `root`, until path_pivot() leaves only `root`.
 */
int jail_attach_root(int root) must_check;

/* children: the processes that the monitor may still kill, besides itself. */
int jail_enter(struct jail *ret, const pid_t *children, size_t n) must_check;
int jail_enter_thread(const struct jail *j, enum jail_thread kind) must_check;
void jail_release(struct jail *j);

/* calls.c: compiles the filters. killable: the processes that may be killed. */
int jail_compile(struct jail *j, const pid_t *killable, size_t n) must_check;
