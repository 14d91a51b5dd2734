/* SPDX-License-Identifier: Apache-2.0 */
#include "base/subids.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fd.h"
#include "base/helper.h"
#include "base/process.h"
#include "base/user.h"

#define FILE_MAX ((size_t)4 * 1024 * 1024)
#define RANGES_MAX 339 /* the kernel takes 340 lines, and one maps the user's own id */
#define NUMBER_MAX 12
#define NSSWITCH "/etc/nsswitch.conf"
#define NSSWITCH_MAX ((size_t)1024 * 1024)
#define PRINTED_MAX (64 * 1024) /* bytes that getsubids(1) or getent(1) may print */

/* Parses the number in the first `len` bytes of s. */
static bool parse_number(const char *s, size_t len, uint64_t max, uint32_t *ret)
{
	char text[NUMBER_MAX];
	uint64_t v;

	if (len == 0 || len >= sizeof(text))
		return false;
	memcpy(text, s, len);
	text[len] = '\0';
	if (str_to_u64(text, &v) < 0 || v > max)
		return false;
	*ret = (uint32_t)v;
	return true;
}

static bool is_word(const char *s, size_t len, const char *word)
{
	return word && strlen(word) == len && strncmp(s, word, len) == 0;
}

/* Parses a line USER:FIRST:COUNT. Returns false if the line is of another user or malformed. */
static bool parse_line(const char *line, size_t len, const char *name, const char *number,
	uint32_t *ret_first, uint32_t *ret_count)
{
	const char *end = line + len, *first = memchr(line, ':', len);
	const char *count = first ? memchr(first + 1, ':', (size_t)(end - first) - 1) : NULL;

	if (!count)
		return false;
	size_t user = (size_t)(first - line);
	if (!is_word(line, user, name) && !is_word(line, user, number))
		return false;
	first++;
	return parse_number(first, (size_t)(count - first), UINT32_MAX - 1, ret_first) &&
	       parse_number(
		       count + 1, (size_t)(end - count) - 1, UINT32_MAX - *ret_first, ret_count) &&
	       *ret_count > 0;
}

bool subids_next(
	const char **pos, const char *name, uid_t uid, uint32_t *ret_first, uint32_t *ret_count)
{
	char number[NUMBER_MAX];

	snprintf(number, sizeof(number), "%u", uid);
	while (**pos) {
		const char *line = *pos;
		size_t len = strcspn(line, "\n");
		*pos = line + len + (line[len] == '\n');
		if (parse_line(line, len, name, number, ret_first, ret_count))
			return true;
	}
	return false;
}

/* An id map to which ranges are appended. */
struct growing {
	struct strbuf *map;
	uint64_t inside; /* the id in the user namespace at which the next range begins */
	int ranges;
};

/* Appends a range. Leaves out what is more than the kernel takes. */
static int add_range(struct growing *g, uint32_t first, uint32_t count)
{
	if (g->ranges == RANGES_MAX || g->inside + count > UINT32_MAX)
		return 0;
	int r = strbuf_addf(g->map, "%u %u %u\n", (uint32_t)g->inside, first, count);
	g->inside += count;
	g->ranges++;
	return r < 0 ? r : 0;
}

static int add_from_file(const char *path, const char *name, uid_t uid, struct strbuf *map)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct growing g = {.map = map, .inside = 1};
	uint32_t first, count;
	int r = fd_read_file(AT_FDCWD, path, &text, FILE_MAX);

	if (r < 0) {
		err_clear();
		return r == -ENOMEM ? r : 0;
	}
	const char *pos = strbuf_str(&text);
	while (r >= 0 && subids_next(&pos, name, uid, &first, &count))
		r = add_range(&g, first, count);
	return r;
}

/* --- ranges of another source, by getsubids(1) --- */

bool subids_names_source(const char *text)
{
	static const char key[] = "subid:";

	while (*text) {
		const char *line = text;
		size_t len = strcspn(line, "\n");
		text += len + (line[len] == '\n');
		if (strncasecmp(line, key, strlen(key)) != 0)
			continue;
		const char *word = line + strlen(key);
		word += strspn(word, " \t");
		size_t n = strcspn(word, " \t\n");
		if (n > 0)
			return !is_word(word, n, "files");
	}
	return false;
}

bool subids_are_elsewhere(void)
{
	_cleanup_strbuf_ struct strbuf text = {0};

	if (fd_read_file(AT_FDCWD, NSSWITCH, &text, NSSWITCH_MAX) < 0) {
		err_clear();
		return false;
	}
	return subids_names_source(strbuf_str(&text));
}

/* Parses a line "NUMBER: USER FIRST COUNT" of getsubids(1). */
static bool parse_printed(const char *line, size_t len, uint32_t *ret_first, uint32_t *ret_count)
{
	const char *end = line + len, *words[4];
	size_t lengths[4], n = 0;

	for (const char *p = line; n < 4; n++) {
		const char *space = memchr(p, ' ', (size_t)(end - p));
		words[n] = p;
		lengths[n] = (size_t)((space && n < 3 ? space : end) - p);
		if (!space || n == 3)
			break;
		p = space + 1;
	}
	uint32_t number;
	return n == 3 && lengths[0] > 1 && words[0][lengths[0] - 1] == ':' &&
	       parse_number(words[0], lengths[0] - 1, UINT32_MAX, &number) && lengths[1] > 0 &&
	       parse_number(words[2], lengths[2], UINT32_MAX - 1, ret_first) &&
	       parse_number(words[3], lengths[3], UINT32_MAX - *ret_first, ret_count) &&
	       *ret_count > 0;
}

int subids_add_printed(const char *text, struct strbuf *map)
{
	struct growing g = {.map = map, .inside = 1};
	uint32_t first, count;
	int r = 0;

	while (r >= 0 && *text) {
		const char *line = text;
		size_t len = strcspn(line, "\n");
		text += len + (line[len] == '\n');
		if (!parse_printed(line, len, &first, &count))
			return err_set(EPROTO,
				SUBIDS_PROGRAM " printed \"%.*s\": expected lines "
					       "\"NUMBER: USER FIRST COUNT\" with ids below 2^32",
				(int)(len < 100 ? len : 100), line);
		r = add_range(&g, first, count);
	}
	return r;
}

/*
 * Runs a program and reads what it prints. Returns 0 and an empty text if the program is not there
 * or fails.
 */
static int ask(const char *const *argv, struct strbuf *ret)
{
	_cleanup_helper_streams_ struct helper_streams s = HELPER_STREAMS_INIT;
	int status;
	int r = helper_streams_open(&s, "", 0);

	if (r >= 0)
		r = helper_run(&s, argv[0], argv, &status);
	if (r < 0 || status != 0)
		return r;
	r = helper_read(&s, 1, ret, PRINTED_MAX);
	if (r == -EFBIG)
		return err_set(EPROTO, "%s printed more than %d bytes", argv[0], PRINTED_MAX);
	if (r >= 0 && strlen(strbuf_str(ret)) != ret->len)
		return err_set(EPROTO, "%s printed a NUL byte", argv[0]);
	return r;
}

/*
 * Finds the name by which the source of ranges knows the user. The source may be a directory
 * service whose users are not in /etc/passwd, so the function asks getent(1) for such a user. A
 * user who has no name gets the number as the name.
 */
static int find_name(uid_t uid, char ret[static USER_NAME_MAX])
{
	_cleanup_user_names_ struct user_names names = {0};
	_cleanup_strbuf_ struct strbuf line = {0};
	const char *known = user_name(&names, uid);
	char number[NUMBER_MAX];

	snprintf(number, sizeof(number), "%u", uid);
	snprintf(ret, USER_NAME_MAX, "%s", known ? known : number);
	if (known)
		return 0;
	int r = ask((const char *const[]){"getent", "passwd", number, NULL}, &line);
	if (r >= 0 && !user_find(strbuf_str(&line), uid, ret))
		snprintf(ret, USER_NAME_MAX, "%s", number);
	return r;
}

static int add_from_program(uid_t uid, struct strbuf *users, struct strbuf *groups)
{
	_cleanup_strbuf_ struct strbuf of_users = {0}, of_groups = {0};
	char name[USER_NAME_MAX];
	int r = find_name(uid, name);

	if (r >= 0)
		r = ask((const char *const[]){SUBIDS_PROGRAM, name, NULL}, &of_users);
	if (r >= 0)
		r = subids_add_printed(strbuf_str(&of_users), users);
	if (r >= 0)
		r = ask((const char *const[]){SUBIDS_PROGRAM, "-g", name, NULL}, &of_groups);
	return r < 0 ? r : subids_add_printed(strbuf_str(&of_groups), groups);
}

int subids_add(uid_t uid, struct strbuf *users, struct strbuf *groups)
{
	_cleanup_user_names_ struct user_names names = {0};

	if (subids_are_elsewhere())
		return add_from_program(uid, users, groups);
	const char *name = user_name(&names, uid);
	int r = add_from_file(SUBIDS_USERS, name, uid, users);
	return r < 0 ? r : add_from_file(SUBIDS_GROUPS, name, uid, groups);
}

/* --- newuidmap(1) and newgidmap(1) --- */

/*
 * Executes the program in the child process of subids_write_map(). Closes all descriptors above 2
 * before, because a set-uid program must not get the descriptors that --preserve-fds keeps open for
 * the container.
 */
static _Noreturn void execute(char **argv)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	close_range(3, ~0U, 0);
	execvp(argv[0], argv);
	_exit(127);
}

/*
 * Makes the arguments PROGRAM PID INSIDE OUTSIDE COUNT ... from an id map. Each number of the map
 * becomes one argument.
 */
static char **make_arguments(struct arena *a, const char *program, pid_t pid, const char *map)
{
	char *text = arena_strdup(a, map), *save;
	char **argv = arena_array(a, strlen(map) / 2 + 4, sizeof(*argv));
	size_t n = 2;

	if (!text || !argv)
		return NULL;
	argv[0] = arena_strdup(a, program);
	argv[1] = arena_printf(a, "%d", pid);
	for (char *p = strtok_r(text, " \n", &save); p; p = strtok_r(NULL, " \n", &save))
		argv[n++] = p;
	return argv[0] && argv[1] ? argv : NULL;
}

int subids_write_map(const char *program, pid_t pid, const char *map)
{
	_cleanup_arena_ struct arena a = {0};
	char **argv = make_arguments(&a, program, pid, map);
	int status;

	if (!argv)
		return err_set(ENOMEM, "out of memory");
	pid_t child = fork();
	if (child < 0)
		return err_sys("fork");
	if (child == 0)
		execute(argv);
	int r = process_wait(child, program, &status);
	if (r < 0)
		return r;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_set(EPERM,
			"an ordinary user who maps more than the own id needs %s: install the "
			"package uidmap",
			program);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(EPERM,
			"%s refused the id map: check this user's ranges in " SUBIDS_USERS
			" and " SUBIDS_GROUPS,
			program);
	return 0;
}
