/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the user and groups that an image asks for ("user", "uid", "user:group", "uid:gid") in the
 * passwd and group files of the image's root.
 */
#pragma once
#include <stdint.h>

#include "base/arena.h"

#define USER_GROUPS_MAX 1024u

struct image_user {
	uint32_t uid, gid;
	uint32_t groups[USER_GROUPS_MAX]; /* ids of the supplementary groups */
	size_t ngroups;
};

/*
 * Looks `text` up in /etc/passwd and /etc/group inside the directory `root`. NULL and "" mean 0:0.
 * The files are read line by line and need not exist. A name of digits alone is always an id, never
 * a name, because the image could otherwise map a number to root. An id out of range is an error.
 */
int image_user_find(int root, const char *text, struct image_user *ret) must_check;
