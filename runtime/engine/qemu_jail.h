/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's jail: how QEMU's process confines itself between fork and exec. */
#pragma once
#include <sys/types.h>

#include "base/err.h"

/* The names of the files that caisson puts into QEMU's root directory. */
#define QEMU_JAIL_KERNEL "/kernel"
#define QEMU_JAIL_INITRAMFS "/initramfs"
#define QEMU_JAIL_SOCKET "/socket"

#define QEMU_JAIL_FLAGS CLONE_NEWPID /* flags of the clone3(2) that makes QEMU's process */

struct qemu_jail {
	const char *program; /* absolute path of QEMU's program file, without symbolic links */
	char *const *argv;
	const int *fds; /* descriptors that QEMU inherits besides the standard streams */
	size_t nfds;
	int kernel, initramfs;
	/*
	 * unbound Unix socket, which the child makes listen at QEMU_JAIL_SOCKET in QEMU's root;
	 * -EBADF: there is no such socket
	 */
	int listener;
	unsigned threads; /* how many threads QEMU may have */
	uid_t user;       /* the monitor's user in its jail, from jail_id() */
	int monitor_pidfd;
};

/* Returns 1 if the program knows the option -sandbox, else 0. */
int qemu_has_sandbox(const char *program) must_check;

/*
 * Enters the jail and executes QEMU. Returns only on failure. The caller has set the standard
 * streams before.
 */
int qemu_jail_exec(const struct qemu_jail *q) must_check;
