/* SPDX-License-Identifier: Apache-2.0 */
#include "base/libexec.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/str.h"

#ifndef CAISSON_LIBEXEC_DIR
#error "CAISSON_LIBEXEC_DIR: where the helper programs are installed"
#endif

/*
 * Reads the directory of the running program. Returns false if the path is too long or has no
 * directory.
 */
static bool program_dir(char *ret, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", ret, size - 1);
	char *slash = n > 0 && ret[0] == '/' ? memrchr(ret, '/', (size_t)n) : NULL;

	if (!slash || slash == ret || (size_t)n >= size - 1)
		return false;
	*slash = '\0';
	return true;
}

int libexec_find(struct arena *a, const char *name, const char *built, const char **ret)
{
	const char *set = getenv("CAISSON_LIBEXEC");
	const char *const beside[] = {built, "../libexec/caisson"};
	char from[PATH_MAX], path[PATH_MAX];

	*ret = set ? set : CAISSON_LIBEXEC_DIR;
	if (set || !program_dir(from, sizeof(from)))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(beside); i++) {
		int n = snprintf(path, sizeof(path), "%s/%s/%s", from, beside[i], name);
		if (n < 0 || (size_t)n >= sizeof(path) || access(path, R_OK) < 0)
			continue;
		*ret = arena_printf(a, "%s/%s", from, beside[i]);
		return *ret ? 0 : -ENOMEM;
	}
	return 0;
}

int libexec_program(struct arena *a, const char *name, const char **ret)
{
	const char *dir;
	int r = libexec_find(a, name, ".", &dir);

	if (r < 0)
		return r;
	*ret = arena_printf(a, "%s/%s", dir, name);
	return *ret ? 0 : -ENOMEM;
}
