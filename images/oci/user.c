/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/user.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/path.h"

/* longest line in bytes; lines of the group file can be long, because they list all members */
#define LINE_MAX_BYTES (64u << 10)
#define FILE_MAX_BYTES (16u << 20)
/*
 * how many fields of a line are read: name, password, id, and (in passwd) the group's id or (in
 * group) the members
 */
#define FIELDS 4
/* greatest user or group id; the number after it means "no change" to chown(2) */
#define ID_MAX (UINT32_MAX - 1)

/* The fields of one line of passwd or group. Missing fields are "". */
struct line {
	const char *field[FIELDS];
};

/*
 * Opens /etc/passwd or /etc/group inside the image's root. Sets *ret to NULL if there is no such
 * file, which is no error.
 */
static int open_table(int root, const char *path, FILE **ret)
{
	struct stat st;

	*ret = NULL;
	/* O_NONBLOCK keeps the open from waiting if the image has a FIFO at this path. */
	_cleanup_fd_ int fd = path_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
	if (fd == -ENOENT || fd == -ENOTDIR) {
		err_clear();
		return 0;
	}
	if (fd < 0)
		return err_ctx(fd, "the image's %s", path);
	if (fstat(fd, &st) < 0)
		return err_sys("look at the image's %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(EINVAL, "the image's %s is not a regular file", path);
	if (st.st_size > FILE_MAX_BYTES)
		return err_set(EFBIG, "the image's %s has %lld bytes: the limit is %u", path,
			(long long)st.st_size, FILE_MAX_BYTES);
	*ret = fdopen(fd, "re");
	if (!*ret)
		return err_sys("read the image's %s", path);
	(void)take_fd(&fd);
	return 0;
}

static void split(char *text, struct line *ret)
{
	for (size_t i = 0; i < FIELDS; i++) {
		ret->field[i] = text;
		text += strcspn(text, ":");
		if (*text)
			*text++ = '\0';
	}
}

/*
 * Calls f with each line of passwd or group. f returns 1 to stop, 0 to go on, or -errno. Lines that
 * are too long are skipped.
 */
static int each_line(
	int root, const char *path, int (*f)(void *data, const struct line *l), void *data)
{
	_cleanup_free_ char *buf = malloc(LINE_MAX_BYTES);
	bool tail = false; /* whether the next piece is the rest of a line that is too long */
	FILE *file;

	if (!buf)
		return err_set(ENOMEM, "out of memory");
	int r = open_table(root, path, &file);
	if (r < 0 || !file)
		return r;
	while (r == 0 && fgets(buf, LINE_MAX_BYTES, file)) {
		size_t len = strcspn(buf, "\n");
		bool whole = buf[len] == '\n' || feof(file);
		bool skip = tail || !whole;
		struct line l;
		tail = !whole;
		buf[len] = '\0';
		if (skip || !*buf || *buf == '#')
			continue;
		split(buf, &l);
		r = f(data, &l);
	}
	fclose(file);
	return r < 0 ? err_ctx(r, "the image's %s", path) : 0;
}

static bool is_id(const char *s, uint32_t *ret)
{
	uint64_t v;

	if (str_to_u64(s, &v) < 0 || v > ID_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool all_digits(const char *s)
{
	return *s && s[strspn(s, "0123456789")] == '\0';
}

struct search {
	const char *name; /* name of the user to look for; NULL: look for the id instead */
	uint32_t id;
	bool found;
	char user[256]; /* name of the user in passwd; "" if it is too long for this array */
	struct image_user *result;
};

static int match_user(void *data, const struct line *l)
{
	struct search *s = data;
	uint32_t uid, gid;

	if (!is_id(l->field[2], &uid) || !is_id(l->field[3], &gid))
		return 0;
	if (s->name ? !streq(l->field[0], s->name) : uid != s->id)
		return 0;
	s->found = true;
	s->result->uid = uid;
	s->result->gid = gid;
	if (strlen(l->field[0]) < sizeof(s->user))
		strcpy(s->user, l->field[0]);
	return 1;
}

static int match_group(void *data, const struct line *l)
{
	struct search *s = data;
	uint32_t gid;

	if (!streq(l->field[0], s->name) || !is_id(l->field[2], &gid))
		return 0;
	s->found = true;
	s->result->gid = gid;
	return 1;
}

static int add_membership(void *data, const struct line *l)
{
	struct search *s = data;
	struct image_user *u = s->result;
	size_t len = strlen(s->user);
	uint32_t gid;

	if (!is_id(l->field[2], &gid) || gid == u->gid)
		return 0;
	for (const char *p = l->field[3]; *p; p += strcspn(p, ","), p += *p == ',') {
		if (strcspn(p, ",") != len || strncmp(p, s->user, len) != 0)
			continue;
		if (u->ngroups == USER_GROUPS_MAX)
			return err_set(E2BIG, "the user %s is in more than %u groups", s->user,
				USER_GROUPS_MAX);
		u->groups[u->ngroups++] = gid;
		return 0;
	}
	return 0;
}

static int out_of_range(const char *what, const char *text)
{
	return err_set(ERANGE, "the image's %s \"%.100s\" is not a number from 0 to %u", what, text,
		ID_MAX);
}

static int find_user(int root, const char *name, struct search *s)
{
	uint32_t id = 0;
	bool number = all_digits(name);

	if (number && !is_id(name, &id))
		return out_of_range("user", name);
	s->name = number ? NULL : name;
	s->id = id;
	s->result->uid = id;
	int r = each_line(root, "etc/passwd", match_user, s);
	if (r >= 0 && !number && !s->found)
		return err_set(
			ENOENT, "the image's user \"%.100s\" is not in its /etc/passwd", name);
	return r;
}

static int find_group(int root, const char *name, struct image_user *u)
{
	struct search s = {.name = name, .result = u};

	if (all_digits(name))
		return is_id(name, &u->gid) ? 0 : out_of_range("group", name);
	int r = each_line(root, "etc/group", match_group, &s);
	if (r >= 0 && !s.found)
		return err_set(
			ENOENT, "the image's group \"%.100s\" is not in its /etc/group", name);
	return r;
}

int image_user_find(int root, const char *text, struct image_user *ret)
{
	struct search s = {.result = ret};
	char user[256];

	*ret = (struct image_user){0};
	if (!text || !*text)
		text = "0";
	size_t len = strcspn(text, ":");
	const char *group = text[len] ? text + len + 1 : NULL;
	if (len == 0 || len >= sizeof(user) || (group && !*group))
		return err_set(EINVAL,
			"the image's user \"%.100s\": expected USER or USER:GROUP, by name or "
			"number",
			text);
	memcpy(user, text, len);
	user[len] = '\0';
	int r = find_user(root, user, &s);
	if (r >= 0 && group)
		return find_group(root, group, ret);
	if (r >= 0 && *s.user)
		r = each_line(root, "etc/group", add_membership, &s);
	return r;
}
