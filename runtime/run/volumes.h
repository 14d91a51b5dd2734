/* SPDX-License-Identifier: Apache-2.0 */
/* volumes.c: opens the volumes of a store for `caisson volume`. */
#pragma once
#include "images/oci/volumes.h"

struct run_volumes {
	struct store store;
	int lock; /* lock of all volumes; -EBADF: not locked */
};

#define RUN_VOLUMES_INIT \
	{ \
		.store = STORE_INIT, .lock = -EBADF \
	}

/*
 * Opens the store in that directory, or the default store if it is NULL. `changes` says that
 * volumes will be made or removed; then the volumes are locked, and an ordinary user's process
 * becomes root in a user namespace, because it cannot remove all files of its containers otherwise.
 */
int run_volumes_open(struct run_volumes *v, const char *store, bool changes) must_check;
void run_volumes_close(struct run_volumes *v);
#define _cleanup_run_volumes_ __attribute__((cleanup(run_volumes_close), unused))
