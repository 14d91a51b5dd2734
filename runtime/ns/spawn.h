/* SPDX-License-Identifier: Apache-2.0 */
/* Starts a process that executes caisson-init, the container's first program. */
#pragma once
#include "ns/ns.h"

struct ns_spawn_args {
	const struct step *clone; /* the step STEP_CLONE of the plan */
	int cgroup; /* directory of the cgroup into which clone3(2) puts the process, or -EBADF */
	bool cgroup_is_new; /* whether the cgroup `cgroup` is new and has no limits yet */
	int image;          /* file of caisson-init, from init_image_open() */
	/*
	 * file from init_orders_write(), which says what caisson-init is to do; becomes descriptor
	 * 0 of caisson-init
	 */
	int orders;
	/*
	 * files that become the new process's descriptors 1 and 2; -EBADF: the process inherits the
	 * caller's
	 */
	int stdout_fd, stderr_fd;
	int channel; /* the runtime's end of the channel to the new process */
	/*
	 * descriptors that the new process gets, besides 0 to 2 and those that preserve_fds keeps
	 * open; the first of `pass` is the new process's own end of the channel
	 */
	const int *pass;
	size_t npass;
	int preserve_fds;
	/*
	 * Function that is called with `data` in the caller while the new process executes
	 * caisson-init; or NULL. The caller and the new process may share memory then, so the
	 * function must not change what these arguments refer to.
	 */
	void (*meanwhile)(void *data);
	void *data;
};

/*
 * Starts the new process. While the caller and the new process share memory, ns_spawn() makes the
 * caller non-dumpable, so that no process of the container can look into that memory. If the result
 * is negative, no process was made.
 */
int ns_spawn(const struct ns_spawn_args *args, struct ns_child *ret) must_check;
