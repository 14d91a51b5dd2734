/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's jail: what a process does between fork and exec to be in it. */
#pragma once
#include <sys/types.h>

#include "base/err.h"

/* Names of these files in QEMU's root. */
#define JAIL_KERNEL "/kernel"
#define JAIL_INITRAMFS "/initramfs"
#define JAIL_SOCKET "/socket"

#define JAIL_QEMU_FLAGS CLONE_NEWPID /* for its clone3(2) */

struct jail_qemu {
	const char *program; /* absolute, without symbolic links */
	char *const *argv;
	const int *fds; /* what it inherits, besides standard streams */
	size_t nfds;
	int kernel, initramfs;
	int listener;     /* a Unix socket without a name: listens as JAIL_SOCKET; -EBADF: none */
	unsigned threads; /* it may have */
	pid_t monitor;
	int monitor_pidfd;
};

/* Whether the program knows -sandbox. */
int jail_qemu_has_sandbox(const char *program) must_check;

/* Returns only if it fails. Standard streams are the caller's business. */
int jail_qemu_exec(const struct jail_qemu *q) must_check;
