/* SPDX-License-Identifier: Apache-2.0 */
/*
 * disk: executes caisson-disk, which carries the compression libraries that caisson goes without. It
 * is beside caisson in a build directory, and in libexec once installed.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fd.h"
#include "cmd/cmd.h"

static const char *const places[] = {"/caisson-disk", "/../libexec/caisson/caisson-disk"};

int cmd_disk(const struct command *self, const struct globals *g, int argc, char **argv)
{
	char exe[PATH_MAX], path[PATH_MAX + 64];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	char *slash = n > 0 ? memrchr(exe, '/', (size_t)n) : NULL;
	_cleanup_free_ char **words = calloc((size_t)argc + 2, sizeof(*words));

	if (!slash || !words)
		return err_set(ENOENT, "disk: /proc/self/exe does not say where caisson is");
	*slash = '\0';
	words[0] = (char *)(uintptr_t) "caisson-disk";
	memcpy(words + 1, argv, (size_t)argc * sizeof(*argv));
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		snprintf(path, sizeof(path), "%s%s", exe, places[i]);
		execv(path, words);
		if (errno != ENOENT)
			return err_sys("disk: execute %s", path);
	}
	return err_set(ENOENT,
		"disk: found no caisson-disk in %s or %s/../libexec/caisson: install it", exe, exe);
}
