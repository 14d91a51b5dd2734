/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `caisson disk`: executes caisson-disk, a separate program, so that caisson needs no compression
 * libraries.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/libexec.h"
#include "cmd/cmd.h"

#define PROGRAM "caisson-disk"

int cmd_disk(const struct command *self, const struct globals *g, int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	const char *path;
	char **words = arena_array(&a, (size_t)argc + 2, sizeof(*words));

	if (!words)
		return -ENOMEM;
	words[0] = arena_strdup(&a, PROGRAM);
	memcpy(words + 1, argv, (size_t)argc * sizeof(*argv));
	/* In a build directory caisson-disk is beside caisson. */
	int r = libexec_program(&a, PROGRAM, &path);
	if (r < 0)
		return r;
	if (!words[0])
		return -ENOMEM;
	execv(path, words);
	return err_sys("disk: execute %s", path);
}
