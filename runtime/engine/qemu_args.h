/* SPDX-License-Identifier: Apache-2.0 */
/* Makes QEMU's command line for a machine. */
#pragma once
#include "engine/engine.h"

#define QEMU_ARGS_MAX 128
#define QEMU_ARGS_FDS_MAX 32

/* The command line. A zeroed struct is empty. The caller releases the arena. */
struct qemu_args {
	struct arena arena;
	char *v[QEMU_ARGS_MAX]; /* arguments; the last one is NULL, as execv(3) needs it */
	size_t n;
	/* descriptors that QEMU inherits; the caller closes all of them */
	int fds[QEMU_ARGS_FDS_MAX];
	size_t nfds;
	bool failed; /* an argument could not be added, because memory or the array was too small */
};

/*
 * Adds all arguments to the command line. vsock is the socket on which the monitor serves the vsock
 * device over vhost-user. console is the socket into which QEMU writes the output of the guest's
 * console.
 */
int qemu_args_build(struct qemu_args *a, const struct engine_description *d, int vsock, int console)
	must_check;
