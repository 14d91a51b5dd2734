/* SPDX-License-Identifier: Apache-2.0 */
/* Removes trees by descriptor. No symbolic link is followed, so the trees may be hostile. */
#pragma once
#include <stdint.h>

#include "base/err.h"

/*
 * Which files are kept: those for which has() returns true, given the directory's inode and the
 * file's name.
 */
struct remove_keep {
	bool (*has)(const void *data, uint64_t dir, const char *name);
	const void *data;
};

/*
 * Removes the file or tree `name` from the directory `dir`. Keeps the files that `keep` names
 * (NULL: none), and all directories that lead to them. It is no error if `name` does not exist.
 */
int remove_tree(int dir, const char *name, const struct remove_keep *keep) must_check;
/* Removes everything in the directory. Keeps the same files as remove_tree(). */
int remove_all_in(int dir, const struct remove_keep *keep) must_check;
