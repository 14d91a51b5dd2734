/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a function in a short-lived process, which is in other namespaces than the caller, and gives
 * the caller the descriptors that the function opens. The caller waits for the process. Other
 * threads of the caller should not open or close descriptors in the meantime, because the process
 * shares the caller's table of descriptors.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Runs fn in a new process. `flags` are the CLONE_NEW* of the new process's namespaces, or 0. fn
 * returns 0 or more, or -errno with a message, and may store up to n descriptors in fds. All n
 * elements of fds are -EBADF when fn is called.
 *
 * Returns what fn returned, with its message. If fn fails, aside_run() closes all descriptors in
 * fds and sets them to -EBADF again.
 */
int aside_run(uint64_t flags, int (*fn)(void *data, int *fds), void *data, int *fds, size_t n)
	must_check;
