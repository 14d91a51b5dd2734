/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ranges of ids that an ordinary user may map in a user namespace: subuid(5) and subgid(5), and
 * the set-uid programs newuidmap(1) and newgidmap(1), which write the maps. A static program cannot
 * load the plug-ins of the name service switch. So if nsswitch.conf(5) names another source of
 * ranges than the two files, such as "subid: sss", caisson asks the program getsubids(1) for them.
 */
#pragma once
#include <sys/types.h>

#include "base/str.h"

#define SUBIDS_USERS "/etc/subuid"
#define SUBIDS_GROUPS "/etc/subgid"
#define SUBIDS_PROGRAM "getsubids"

/* Says whether nsswitch.conf(5) names another source of ranges than the two files. */
bool subids_are_elsewhere(void);

/*
 * Appends the ranges of the user `uid` to the id maps of users and of groups, in the form of
 * /proc/PID/uid_map. The first range begins at the id 1 of the user namespace, because the user
 * becomes the id 0. Appends nothing if the user has no range, if the file cannot be read, or if
 * getsubids(1) is not there or fails. Returns -EPROTO if getsubids(1) prints something else than
 * ranges.
 */
int subids_add(uid_t uid, struct strbuf *users, struct strbuf *groups) must_check;

/*
 * Finds the user's next range in the text of subuid(5), from *pos on. Returns false if there is no
 * further range. `name` is NULL for a user without a name. The function is declared here for the
 * unit tests, and so are the next two.
 */
bool subids_next(
	const char **pos, const char *name, uid_t uid, uint32_t *ret_first, uint32_t *ret_count);

/* Appends the ranges that getsubids(1) has printed in `text` to an id map. */
int subids_add_printed(const char *text, struct strbuf *map) must_check;

/*
 * Says whether the text of nsswitch.conf(5) names another source of ranges than the two files. As
 * newuidmap(1) does, the function takes the first word of the first line "subid:" that has one.
 */
bool subids_names_source(const char *text);

/*
 * Runs newuidmap(1) or newgidmap(1), which write an id map of the process `pid` after they have
 * checked it against the ranges of this user. `map` has the form of /proc/PID/uid_map.
 */
int subids_write_map(const char *program, pid_t pid, const char *map) must_check;
