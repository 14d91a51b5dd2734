/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of users, from /etc/passwd alone. A static program cannot use the name service switch,
 * which loads libraries, so a user of a directory service has no name here.
 */
#pragma once
#include "base/str.h"

#define USER_NAME_MAX 64 /* bytes, with the NUL */

/*
 * Initialise it with {0}; release it with user_names_release(). The file is read once, if at all.
 */
struct user_names {
	struct strbuf text;
	bool read;
	unsigned last; /* the user asked for last, and the name */
	char last_name[USER_NAME_MAX];
	char number[12];
};

void user_names_release(struct user_names *u);
#define _cleanup_user_names_ __attribute__((cleanup(user_names_release), unused))

/*
 * Returns the name of the user, or NULL if the file has none, or one that is too long. It is valid
 * until the next call.
 */
const char *user_name(struct user_names *u, unsigned uid);

/* Like user_name(), but a user without a name gets the number, in decimal digits. */
const char *user_name_or_number(struct user_names *u, unsigned uid);

/* Finds a user in the text of a passwd file. It is declared for tests. */
bool user_find(const char *passwd, unsigned uid, char ret[static USER_NAME_MAX]);
