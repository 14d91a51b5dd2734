/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's jail: what QEMU's process does between fork and exec to confine itself. */
#pragma once
#include <sys/types.h>

#include "base/err.h"

/* The names of these files in QEMU's root. */
#define QEMU_JAIL_KERNEL "/kernel"
#define QEMU_JAIL_INITRAMFS "/initramfs"
#define QEMU_JAIL_SOCKET "/socket"

#define QEMU_JAIL_FLAGS CLONE_NEWPID /* flags for the clone3(2) that makes QEMU's process */

struct qemu_jail {
	const char *program; /* absolute, without symbolic links */
	char *const *argv;
	const int *fds; /* what QEMU inherits besides standard streams */
	size_t nfds;
	int kernel, initramfs;
	int listener; /* an unbound Unix socket that is to listen as QEMU_JAIL_SOCKET, or -EBADF */
	unsigned threads; /* how many threads QEMU may have */
	pid_t monitor;
	int monitor_pidfd;
};

/* Returns 1 if the program knows the option -sandbox, else 0. */
int qemu_has_sandbox(const char *program) must_check;

/*
 * Enters the jail and executes the program, so it returns only if that fails. The caller has set
 * the standard streams before.
 */
int qemu_jail_exec(const struct qemu_jail *q) must_check;
