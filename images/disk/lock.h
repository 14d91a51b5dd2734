/* SPDX-License-Identifier: Apache-2.0 */
/* The locks that keep caisson and QEMU from using an image file at the same time. */
#pragma once
#include "base/err.h"

/*
 * Takes the locks of QEMU's file driver on the file of descriptor fd, for writing if `write` is
 * true. The locks end when the last copy of the descriptor is closed. `shared` allows other
 * processes to write the file too. Returns -EAGAIN, with a message that begins with `name`, if
 * another process uses the file in a way that excludes this use.
 */
int disk_lock(int fd, const char *name, bool write, bool shared) must_check;
