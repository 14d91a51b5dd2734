/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs a function that a hostile file system can hold up, such as a path look-up in a container
 * that mounts FUSE, in a process of its own, and waits for that process only for a limited time.
 *
 * A process that waits for an answer of a FUSE server cannot be killed until the server answers or
 * ends. So the process that runs the function has no descriptors but those that it needs: it keeps
 * neither the caller's locks nor the caller's output open.
 */
#pragma once
#include <stddef.h>

#include "base/err.h"

#define BOUNDED_KEEP_MAX 4

struct bounded {
	/* returns 0 or more, or -errno with a message; runs in the new process */
	int (*fn)(void *data);
	void *data;
	/* descriptors that fn needs; elements below 0 are left out */
	int keep[BOUNDED_KEEP_MAX];
	size_t nkeep;
	int timeout_ms;
};

/*
 * Returns what b->fn returns, with its message. If b->fn has not returned in time, or SIGTERM,
 * SIGINT, SIGHUP or SIGQUIT comes first, kills the process and returns -ETIMEDOUT or -EINTR. What
 * b->fn was to do may then be done or not.
 */
int bounded_run(const struct bounded *b) must_check;
