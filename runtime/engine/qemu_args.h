/* SPDX-License-Identifier: Apache-2.0 */
/* Makes the command line with which caisson executes QEMU for a machine. */
#pragma once
#include "engine/engine.h"

#define QEMU_ARGS_MAX 160
#define QEMU_ARGS_FDS_MAX (32 + 2 * ENGINE_NICS_MAX * VIRTIO_NET_PAIRS_MAX)

/* QEMU's command line. A zeroed struct is an empty one. The caller releases the arena. */
struct qemu_args {
	struct arena arena;
	char *v[QEMU_ARGS_MAX]; /* QEMU's arguments; the last entry is NULL, as execv(3) needs it */
	size_t n;
	/* descriptors that QEMU inherits; the caller closes all of them */
	int fds[QEMU_ARGS_FDS_MAX];
	size_t nfds;
	/* set if an argument could not be added, because memory or the array was too small */
	bool failed;
};

/* the ends of socket pairs that QEMU inherits; the monitor holds the other ends */
struct qemu_sockets {
	/*
	 * socket on which the monitor serves the vsock device over vhost-user; -EBADF: the machine
	 * has no vsock device
	 */
	int vsock;
	/*
	 * socket to which QEMU writes the output of the guest's console, and from which it reads
	 * the console's input
	 */
	int console;
	/*
	 * socket on which QEMU takes commands (QMP), and waits for one before it runs the guest
	 */
	int qmp;
};

/* Adds all arguments of QEMU for the machine that the description describes. */
int qemu_args_build(struct qemu_args *a, const struct engine_description *d,
	const struct qemu_sockets *s) must_check;
