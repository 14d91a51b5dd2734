/* SPDX-License-Identifier: Apache-2.0 */
/* Declares the functions for locks, which the files of the store share. */
#pragma once
#include "images/oci/store.h"

/*
 * Turns the shared lock of this process into the exclusive lock. Returns -EBUSY if another process
 * has the store open.
 */
int store_lock_alone(struct store *s) must_check;
int store_lock_shared(struct store *s) must_check;
/*
 * Locks a file by flock(2). Returns -EBUSY, without a message, if `operation` has LOCK_NB and
 * another process holds the lock.
 */
int store_lock_file(int fd, int operation) must_check;
