/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's root and bind mounts as one virtio-fs share, which a process of its own serves.
 * The share's root is a directory with one entry for each slot of the plan, named by the slot's
 * number, on which the mount that HOST opened is mounted.
 *
 * If the plan makes the root read-only, share_seal() asks for that on the host once INIT has made
 * its mount points there. The answer comes at `seal`, and share_sealed() reads it.
 */
#pragma once
#include <sys/types.h>

#include "plan/plan.h"

#define SHARE_TAG "caisson"

struct share {
	pid_t pid;    /* of the server, our child; 0: there is none */
	int sock;     /* speaks vhost-user; for the machine's virtio-fs device */
	int seal;     /* -EBADF: the root stays writable, or is read-only already */
	bool sealing; /* share_seal() waits for its answer */
};

/* Whether anything is shared. Nothing is if vm.image is the root and there are no bind mounts. */
bool share_needed(const struct plan *plan);
/*
 * Starts the server, which writes to `errors` why it fails. The slots stay the caller's. With
 * host_locks the guest's locks hold on the host too.
 */
int share_start(struct share *ret, const struct plan *plan, const int *slots, int errors,
	bool host_locks) must_check;
/*
 * To be called after a SIGCHLD. Returns 0 if the server still runs; -EIO with a message if it was
 * killed; -EPIPE with a message if it exited, which it also does when the hypervisor has ended.
 */
int share_check(struct share *s) must_check;
int share_seal(struct share *s) must_check;
int share_sealed(struct share *s) must_check;
void share_stop(struct share *s);
