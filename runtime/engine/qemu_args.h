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

/* QEMU's ends of socket pairs. */
struct qemu_sockets {
	/* the monitor serves the vsock device on it over vhost-user; -EBADF: no device */
	int vsock;
	int console; /* QEMU writes the output of the guest's console to it, and reads its input */
	/*
	 * QEMU takes commands on it (QMP), and waits for one before it runs the guest; -EBADF: it
	 * takes none
	 */
	int qmp;
};

/* Adds all arguments. */
int qemu_args_build(struct qemu_args *a, const struct engine_description *d,
	const struct qemu_sockets *s) must_check;
