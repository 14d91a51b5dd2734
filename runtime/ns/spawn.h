/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a process that executes caisson-init. */
#pragma once
#include "ns/ns.h"

struct ns_spawn_args {
	const struct step *clone; /* STEP_CLONE */
	int cgroup;               /* directory to be cloned into, or -EBADF */
	int image;                /* init_image_open() */
	int orders;               /* init_orders_write(); becomes descriptor 0 */
	int channel;              /* the runtime's end */
	/* descriptors that the process gets, besides 0 to 2 and the preserved ones; its own end of
	 * the channel is the first */
	const int *pass;
	size_t npass;
	int preserve_fds;
};

/*
 * The caller is non-dumpable while the new process has its memory. If the result is negative,
 * nothing was made.
 */
int ns_spawn(const struct ns_spawn_args *args, struct ns_child *ret) must_check;
