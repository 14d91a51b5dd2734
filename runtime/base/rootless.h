/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a process of an ordinary user the root of a new user namespace, in which the files of
 * images can have their owners.
 */
#pragma once
#include "base/str.h"

struct rootless {
	/* the process had no privileges, and is the root of a new user namespace now */
	bool entered;
	/*
	 * Why the process can give files to no other user or group, as a part of a sentence; NULL:
	 * it can. The text is static.
	 */
	const char *one_id;
};

/*
 * Makes a process without privileges the root of a new user namespace, and of a new mount
 * namespace, which belongs to that user namespace. The user namespace maps the user's own ids to 0,
 * and the ranges of subuid(5) and subgid(5) to the ids from 1 on. If the user has no such ranges,
 * or newuidmap(1) fails, it maps the user's own ids only. Then the process may enter and remove
 * directories whose modes forbid it to their owner, may set extended attributes for which the
 * kernel wants a capability in the user namespace, and may mount overlays.
 *
 * A process with the user id 0 stays where it is. The process must have one thread. The kernel
 * clears the setting PR_SET_PDEATHSIG.
 */
int rootless_become_root(struct rootless *ret) must_check;

#define ROOTLESS_KEY_SIZE 18 /* size in bytes of the buffer for a key */

/*
 * Computes a key of the id maps of this process's user namespace. Processes that have the same key
 * see the same owners of the files in a store. The key is "" if all ids are mapped to themselves,
 * as in the initial user namespace.
 */
int rootless_key(char ret[ROOTLESS_KEY_SIZE]) must_check;

/*
 * Appends the lines of /proc/self/uid_map to *users and those of gid_map to *groups, each as three
 * numbers with one space in between.
 */
int rootless_read_maps(struct strbuf *users, struct strbuf *groups) must_check;
