/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves the container's root and bind mounts as one virtio-fs share, in a process of its own. The
 * share's root is a directory with one entry for each slot of the plan. The name of an entry is the
 * number of the slot, and the mount that the host's side opened for the slot is mounted on the
 * entry.
 *
 * If the plan makes the root read-only, share_seal() asks the process to make the root read-only on
 * the host, once INIT has made its mount points in the root. The answer comes at `seal`, and
 * share_sealed() reads it.
 */
#pragma once
#include <sys/types.h>

#include "base/err.h"
#include "plan/plan.h"

#define SHARE_TAG "caisson"

struct share {
	/* pid of the file server, a child of the monitor; 0: the file server does not run */
	pid_t pid;
	int sock; /* vhost-user socket of the server, for the machine's virtio-fs device */
	/*
	 * socket on which the monitor saves and loads the server's state, because QEMU has `sock`
	 * and cannot do so; -EBADF: there is none
	 */
	int carrier;
	/*
	 * socket on which the monitor asks the file server to make the root read-only; -EBADF: the
	 * root stays as it is
	 */
	int seal;
	bool sealing; /* set from share_seal() on until the file server's answer has come */
};

#define SHARE_INIT \
	{ \
		.sock = -EBADF, .carrier = -EBADF, .seal = -EBADF \
	}

/*
 * Says whether the guest needs a share of the host's files. If vm.image is the root and there are
 * no bind mounts, it needs none.
 */
bool share_needed(const struct plan *plan);
struct share_options {
	int errors; /* descriptor to which the file server writes error messages */
	/* file locks that the guest takes are also taken on the host */
	bool host_locks;
	/* the container has a limit of CPU time, of which the file server should use little */
	bool cpu_limited;
	bool carried; /* the file server gets the socket `carrier` */
};

/* Starts the file server. The descriptors in `slots` stay open in the caller. */
int share_start(struct share *ret, const struct plan *plan, const int *slots,
	const struct share_options *options) must_check;
/*
 * Finds out whether the file server has ended. The caller calls this function after a SIGCHLD.
 * Returns 0 if the file server still runs, -EIO with a message if it was killed, and -EPIPE with a
 * message if it exited, as it does when the hypervisor has ended.
 */
int share_check(struct share *s) must_check;
int share_seal(struct share *s) must_check;
int share_sealed(struct share *s) must_check;
void share_stop(struct share *s);
