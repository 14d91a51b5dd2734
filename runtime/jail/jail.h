/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the monitor can still do once its machine is made: use the descriptors that it has.
 *
 *	jail_close_others(keep, n)      first of all: nothing is inherited
 *	... opens, forks, builds; one thread ...
 *	jail_enter(&j, children, n)     the process
 *	... starts threads ...
 *	jail_enter_thread(&j, kind)     each of them, itself, last of all itself
 *
 * What follows applies to threads in the kernel, and is inherited by those that are started later:
 * hence the order.
 */
#pragma once
#include <linux/filter.h>
#include <sys/types.h>

#include "base/err.h"

enum jail_thread {
	JAIL_LOOP,    /* monitor.c's */
	JAIL_DEVICES, /* who serves the devices, or only vsock where QEMU has the others */
	JAIL_VCPU,
	JAIL_THREADS
};

struct jail {
	struct sock_fprog filters[JAIL_THREADS]; /* of system calls; empty: none */
};

/*
 * For a child process: standard streams of its own, since the container's are not for it to keep
 * open. errors: what becomes standard error; -EBADF: nothing does.
 */
int jail_leave_streams(int errors) must_check;

/*
 * The user, and group, that a monitor and its children run as: its own, told by its pid. They are
 * in a range that systemd's list (systemd.io/UIDS-GIDS) has as unused.
 */
uid_t jail_id(pid_t monitor);

/*
 * Gives up capabilities, for good, and becomes that user and group. A user namespace that lacks
 * the number keeps the user as it is.
 */
int jail_drop_rights(uid_t id) must_check;

/*
 * Landlock, where the kernel has it, once there are no new privileges to be had: no TCP, no
 * abstract Unix socket of somebody else's, and nothing by name in the file system unless `files`.
 */
int jail_landlock(bool files) must_check;

/* No core dumps, no locked memory, and so many descriptors at most. */
int jail_limit(unsigned files) must_check;

/*
 * A new mount namespace with `root`, a detached mount, above its root: mounts can be put beneath it
 * while the host's tree is still there. path_pivot() then leaves nothing else.
 */
int jail_attach_root(int root) must_check;

/* children: processes that may be killed; with those that the calling process is. */
int jail_enter(struct jail *ret, const pid_t *children, size_t n) must_check;
int jail_enter_thread(const struct jail *j, enum jail_thread kind) must_check;
void jail_release(struct jail *j);

/* jail_calls.c: the filters. */
int jail_compile(struct jail *j, const pid_t *killable, size_t n) must_check;
