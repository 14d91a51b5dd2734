/* SPDX-License-Identifier: Apache-2.0 */
/* Gives a process a descriptor with O_NONBLOCK for a file that other processes use too. */
#pragma once
#include "base/err.h"

/*
 * Opens the file of fd again with O_NONBLOCK, if it is a FIFO or a terminal. `access` is O_RDONLY,
 * O_WRONLY or O_RDWR. The new descriptor has an open file description of its own, so other
 * processes that use fd's description do not get O_NONBLOCK too. Returns the new descriptor, or -1
 * without an error message, because the caller can use fd itself instead.
 */
int nonblock_open(int fd, int access) must_check;
