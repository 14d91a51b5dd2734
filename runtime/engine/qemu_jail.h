/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares QEMU's jail: the limits that the process imposes on itself between fork and exec of
 * QEMU.
 */
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
	int kernel, initramfs; /* -EBADF: the machine has none */
	/*
	 * unbound Unix socket, which the child process makes listen at QEMU_JAIL_SOCKET in QEMU's
	 * root; -EBADF: QEMU connects to no socket
	 */
	int listener;
	unsigned threads; /* how many threads QEMU may have */
	uid_t user; /* user as which QEMU runs: the monitor's user in its jail, from jail_id() */
	int monitor_pidfd;
};

/*
 * Returns 1 if `program`, a QEMU, knows the option -sandbox, 0 if it does not, and -errno with a
 * message if the file cannot be read.
 */
int qemu_has_sandbox(const char *program) must_check;

/*
 * Puts the calling process into QEMU's jail and executes QEMU in it. Returns only on failure. The
 * caller has set the standard streams before.
 */
int qemu_jail_exec(const struct qemu_jail *q) must_check;
