/* SPDX-License-Identifier: Apache-2.0 */
/* volumes.c: opens the store, in which volumes are, for `caisson volume`. */
#pragma once
#include "images/oci/volumes.h"

struct run_volumes {
	struct store store;
	/*
	 * descriptor of the lock of all volumes in the store; -EBADF: this process has not locked
	 * them
	 */
	int lock;
};

#define RUN_VOLUMES_INIT \
	{ \
		.store = STORE_INIT, .lock = -EBADF \
	}

/*
 * Opens the store in the directory `store`, or the default store if `store` is NULL. `changes` says
 * that volumes will be made or removed. Then the function locks the volumes, and an ordinary user's
 * process becomes root in a user namespace, because otherwise it cannot remove all files that its
 * containers have made.
 */
int run_volumes_open(struct run_volumes *v, const char *store, bool changes) must_check;
void run_volumes_close(struct run_volumes *v);
#define _cleanup_run_volumes_ __attribute__((cleanup(run_volumes_close), unused))
