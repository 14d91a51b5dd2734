/* SPDX-License-Identifier: Apache-2.0 */
#include "base/user.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"

#define PASSWD "/etc/passwd"
#define PASSWD_MAX ((size_t)16 * 1024 * 1024)

void user_names_release(struct user_names *u)
{
	strbuf_release(&u->text);
}

/*
 * Returns whether the third field of a line of passwd(5), which is the uid, equals the argument
 * `uid`.
 */
static bool has_uid(const char *line, size_t len, unsigned uid)
{
	const char *end = line + len, *password = memchr(line, ':', len);
	const char *number =
		password ? memchr(password + 1, ':', (size_t)(end - password) - 1) : NULL;
	unsigned long v = 0;
	const char *p = number ? number + 1 : end;

	if (p >= end || *p < '0' || *p > '9')
		return false;
	for (; p < end && *p >= '0' && *p <= '9' && v <= UINT32_MAX; p++)
		v = v * 10 + (unsigned long)(*p - '0');
	return p < end && *p == ':' && v == uid;
}

bool user_find(const char *passwd, unsigned uid, char ret[static USER_NAME_MAX])
{
	while (*passwd) {
		size_t len = strcspn(passwd, "\n"), name = strcspn(passwd, ":\n");
		if (name && name < USER_NAME_MAX && has_uid(passwd, len, uid)) {
			memcpy(ret, passwd, name);
			ret[name] = '\0';
			return true;
		}
		passwd += len + (passwd[len] == '\n');
	}
	return false;
}

const char *user_name(struct user_names *u, unsigned uid)
{
	/*
	 * For uid 0 the name is always "root", without a look into /etc/passwd, because nearly
	 * every container belongs to root, and the command `start` and every hook need the name.
	 */
	if (uid == 0)
		return "root";
	if (u->read && u->last == uid)
		return *u->last_name ? u->last_name : NULL;
	if (!u->read && fd_read_file(AT_FDCWD, PASSWD, &u->text, PASSWD_MAX) < 0) {
		err_clear();
		strbuf_reset(&u->text);
	}
	u->read = true;
	u->last = uid;
	if (!user_find(strbuf_str(&u->text), uid, u->last_name))
		u->last_name[0] = '\0';
	return *u->last_name ? u->last_name : NULL;
}

const char *user_name_or_number(struct user_names *u, unsigned uid)
{
	const char *name = user_name(u, uid);

	if (!name)
		snprintf(u->number, sizeof(u->number), "%u", uid);
	return name ? name : u->number;
}
