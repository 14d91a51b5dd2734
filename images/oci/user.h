/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image's user: "user", "uid", "user:group", "uid:gid", by the passwd and group files of its
 * root.
 */
#pragma once
#include <stdint.h>

#include "base/arena.h"

#define USER_GROUPS_MAX 1024u

struct image_user {
	uint32_t uid, gid;
	uint32_t groups[USER_GROUPS_MAX]; /* the additional ones */
	size_t ngroups;
};

/*
 * Looks text (NULL or "": 0:0) up in /etc/passwd and /etc/group beneath root, which are read line
 * by line, resolved inside the root, and need not exist. A name of digits alone is a number, or an
 * error if it is out of range: never looked up as a name, which the image could give to root.
 */
int image_user_find(int root, const char *text, struct image_user *ret) must_check;
