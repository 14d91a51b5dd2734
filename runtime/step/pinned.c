/* SPDX-License-Identifier: Apache-2.0 */
#include "step/pinned.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"

/*
 * Returns whether a line of mountinfo is that of a pinned mount namespace that is mounted beneath
 * the directory. The fourth field of a line is the path within the file system, here mnt:[NUMBER],
 * and the fifth is the mount point.
 */
static bool is_pinned_below(char *line, const char *directory, size_t len)
{
	char *root = strstr(line, " mnt:[");
	char *point = root ? strchr(root, ']') : NULL;

	if (!point || !str_starts(point, "] /"))
		return false;
	point += 2;
	point[strcspn(point, " ")] = '\0';
	str_unescape(point);
	return strncmp(point, directory, len) == 0 && point[len] == '/';
}

static bool find_below(char *mounts, const char *path)
{
	char directory[PATH_MAX], *save = NULL;

	if (!realpath(path, directory))
		return true;
	size_t len = strcmp(directory, "/") == 0 ? 0 : strlen(directory);
	for (char *l = strtok_r(mounts, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
		if (is_pinned_below(l, directory, len))
			return true;
	return false;
}

bool pinned_below(const char *path)
{
	static bool none; /* this process's mount namespace has no pinned one */
	_cleanup_strbuf_ struct strbuf text = {0};

	if (none)
		return false;
	if (fd_read_file(AT_FDCWD, "/proc/self/mountinfo", &text, 64 << 20) < 0) {
		err_clear();
		return true;
	}
	none = !strstr(strbuf_str(&text), " mnt:[");
	return !none && find_below(text.s, path);
}
