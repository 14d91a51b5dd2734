/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ranges of ids that an ordinary user may map in a user namespace: subuid(5) and subgid(5), and
 * the set-uid programs newuidmap(1) and newgidmap(1), which write the maps. Only the two files are
 * read, because a static program cannot use the name service switch.
 */
#pragma once
#include <sys/types.h>

#include "base/str.h"

#define SUBIDS_USERS "/etc/subuid"
#define SUBIDS_GROUPS "/etc/subgid"

/*
 * Appends the ranges that the file `path` gives to the user `uid` to an id map, in the form of
 * /proc/PID/uid_map. The first range begins at the id 1 of the user namespace, because the user
 * becomes the id 0. Appends nothing if the file cannot be read or gives the user no range.
 */
int subids_add(const char *path, uid_t uid, struct strbuf *map) must_check;

/*
 * Finds the user's next range in the text of subuid(5), from *pos on. Returns false if there is no
 * further range. `name` is NULL for a user without a name. The function is declared here for the
 * unit tests.
 */
bool subids_next(
	const char **pos, const char *name, uid_t uid, uint32_t *ret_first, uint32_t *ret_count);

/*
 * Runs newuidmap(1) or newgidmap(1), which write an id map of the process `pid` after they have
 * checked it against the ranges of this user. `map` has the form of /proc/PID/uid_map.
 */
int subids_write_map(const char *program, pid_t pid, const char *map) must_check;
