/* SPDX-License-Identifier: Apache-2.0 */
#include "base/subids.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/user.h"

#define FILE_MAX ((size_t)4 * 1024 * 1024)
#define RANGES_MAX 339 /* the kernel takes 340 lines, and one maps the user's own id */
#define NUMBER_MAX 12

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

int subids_add(const char *path, uid_t uid, struct strbuf *map)
{
	_cleanup_user_names_ struct user_names names = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	uint32_t first, count;
	uint64_t inside = 1;
	int r = fd_read_file(AT_FDCWD, path, &text, FILE_MAX);

	if (r < 0) {
		err_clear();
		return r == -ENOMEM ? r : 0;
	}
	const char *pos = strbuf_str(&text), *name = user_name(&names, uid);
	for (int i = 0; i < RANGES_MAX && subids_next(&pos, name, uid, &first, &count); i++) {
		if (inside + count > UINT32_MAX)
			break;
		r = strbuf_addf(map, "%u %u %u\n", (uint32_t)inside, first, count);
		if (r < 0)
			return r;
		inside += count;
	}
	return 0;
}

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
