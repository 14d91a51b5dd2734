/* SPDX-License-Identifier: Apache-2.0 */
/* Starts a process that executes caisson-init, the container's first program. */
#pragma once
#include "ns/ns.h"

struct ns_spawn_args {
	const struct step *clone; /* the plan's STEP_CLONE */
	int cgroup; /* directory of the cgroup into which clone3(2) puts the process, or -EBADF */
	bool cgroup_is_new; /* the cgroup `cgroup` has no limits yet */
	int image;          /* file of caisson-init, from init_image_open() */
	/* file from init_orders_write() with what caisson-init is to do; becomes descriptor 0 */
	int orders;
	/* files that become descriptors 1 and 2; -EBADF: the process has those of the caller */
	int stdout_fd, stderr_fd;
	int channel; /* the runtime's end of the channel */
	/*
	 * descriptors that the process gets, besides 0 to 2 and the preserved ones; the first of
	 * `pass` is the process's own end of the channel
	 */
	const int *pass;
	size_t npass;
	int preserve_fds;
	/*
	 * called with `data` in the caller while the new process executes caisson-init; or NULL.
	 * Both may share memory then, so the function must not change what these arguments refer
	 * to.
	 */
	void (*meanwhile)(void *data);
	void *data;
};

/*
 * Starts the process. The caller is non-dumpable as long as the new process shares its memory. If
 * the result is negative, no process was made.
 */
int ns_spawn(const struct ns_spawn_args *args, struct ns_child *ret) must_check;
