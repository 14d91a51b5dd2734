/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a process or a thread that shares the caller's memory. The C library's clone(3) will not
 * do: since version 1.2.5 musl refuses CLONE_THREAD with EINVAL.
 */
#pragma once
#include "base/err.h"
#include "base/sys.h"

/*
 * Calls clone3(2), where args->flags has CLONE_VM. The child runs fn on the stack that `args`
 * gives, and fn must not return. Returns the child's pid, or -1 with errno.
 */
pid_t clone_vm(struct clone_args *args, int (*fn)(void *data), void *data) must_check;
