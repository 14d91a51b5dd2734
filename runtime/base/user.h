/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks up the names of users, only in /etc/passwd. A static program cannot use the name service
 * switch, which loads libraries, so a user of a directory service has no name here.
 */
#pragma once
#include "base/str.h"

#define USER_NAME_MAX 64 /* size in bytes of the buffer for a user name, with the NUL */

/*
 * The contents of /etc/passwd, which is read once, when a caller asks for the first name. {0}
 * initialises the structure; user_names_release() releases it.
 */
struct user_names {
	struct strbuf text;
	bool read;
	unsigned last; /* the uid that a caller asked for last, and its name */
	char last_name[USER_NAME_MAX];
	char number[12];
};

void user_names_release(struct user_names *u);
#define _cleanup_user_names_ __attribute__((cleanup(user_names_release), unused))

/*
 * Returns the name of the user, or NULL if /etc/passwd has no such user or the name is too long.
 * The name is valid until the next call.
 */
const char *user_name(struct user_names *u, unsigned uid);

/*
 * Returns the name of the user or, for a user without a name, the uid in decimal digits. The text
 * is valid until the next call.
 */
const char *user_name_or_number(struct user_names *u, unsigned uid);

/*
 * Finds the name of a user in the text of a passwd file. Returns false if the text has no such
 * user. The function is declared here for the unit tests.
 */
bool user_find(const char *passwd, unsigned uid, char ret[static USER_NAME_MAX]);
