/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's command line for a machine. */
#pragma once
#include "engine/engine.h"

#define QEMU_ARGS_MAX 128
#define QEMU_ARGS_FDS_MAX 32

/* Zeroed is empty. The caller releases the arena. */
struct qemu_args {
	struct arena arena;
	char *v[QEMU_ARGS_MAX]; /* ends with NULL, as execv(3) wants it */
	size_t n;
	int fds[QEMU_ARGS_FDS_MAX]; /* descriptors that QEMU inherits; they stay the caller's */
	size_t nfds;
	bool failed; /* something did not fit */
};

/*
 * Adds all arguments. vsock: the socket on which the vsock device is served over vhost-user.
 * console: the socket that the guest's console is written to.
 */
int qemu_args_build(struct qemu_args *a, const struct engine_description *d, int vsock, int console)
	must_check;
