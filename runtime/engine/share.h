/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's root and bind mounts as one virtio-fs share, served by a process of its own. The
 * share's root is an empty directory with one entry for each slot of the plan, named by its number,
 * on which the mount that HOST opened is mounted.
 *
 * Where the plan makes the root read-only, share_seal() does that on the host, once INIT has made
 * its mount points: then the answer comes at `seal`, and share_sealed() takes it.
 */
#pragma once
#include <sys/types.h>

#include "plan/plan.h"

#define SHARE_TAG "caisson"

struct share {
	pid_t pid; /* of the server, our child; 0: none */
	int sock;  /* vhost-user, for the hypervisor's front end */
	int seal;  /* -EBADF: the root is not, or already, sealed */
	bool sealing;
};

/* Whether anything is shared: with vm.image for a root, and no bind mounts, nothing is. */
bool share_needed(const struct plan *plan);
/* Starts the server, which says on `errors` why it ends. The slots stay the caller's. */
int share_start(struct share *ret, const struct plan *plan, const int *slots, int errors)
	must_check;
/*
 * After a SIGCHLD. 0: the server still runs; -EIO: it was killed; -EPIPE: it ended, which may be
 * because the hypervisor did. With a message.
 */
int share_check(struct share *s) must_check;
int share_seal(struct share *s) must_check;
int share_sealed(struct share *s) must_check;
void share_stop(struct share *s);
