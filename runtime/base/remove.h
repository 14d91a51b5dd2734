/* SPDX-License-Identifier: Apache-2.0 */
/* Removes trees by descriptor. No symbolic link is followed, so the trees may be hostile. */
#pragma once
#include <stdint.h>

#include "base/err.h"

/*
 * Which files stay: those for which the function has() returns true. It gets the inode of the
 * file's directory and the file's name.
 */
struct remove_keep {
	bool (*has)(const void *data, uint64_t dir, const char *name);
	const void *data;
};

/*
 * Removes the file or tree `name` from the directory `dir`. The files that `keep` names stay (NULL:
 * no files), and so do all directories that lead to them. If `name` does not exist, the function
 * succeeds.
 */
int remove_tree(int dir, const char *name, const struct remove_keep *keep) must_check;
/*
 * Removes everything in the directory `dir`. The files that `keep` names stay, as with
 * remove_tree().
 */
int remove_all_in(int dir, const struct remove_keep *keep) must_check;
