/* SPDX-License-Identifier: Apache-2.0 */
/* Removes trees by descriptor. No symbolic link is followed, so the trees may be hostile. */
#pragma once
#include <stdint.h>

#include "base/err.h"

/* Says which names stay: those for which has() is true of the directory's inode and the name. */
struct remove_keep {
	bool (*has)(const void *data, uint64_t dir, const char *name);
	const void *data;
};

/*
 * Removes name from the directory dir, with all beneath it. What keep (NULL: nothing) names stays,
 * and so do the directories that it is in. It is no error if there is no such name.
 */
int remove_tree(int dir, const char *name, const struct remove_keep *keep) must_check;
/* Removes all that is in the directory, in the same way. */
int remove_all_in(int dir, const struct remove_keep *keep) must_check;
