/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `caisson disk`: executes caisson-disk, a separate program, so that caisson needs no compression
 * libraries.
 */
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/libexec.h"
#include "cmd/cmd.h"

#define PROGRAM "caisson-disk"

/*
 * Tells caisson-disk which caisson to run with which directory of states, for the commands that
 * need a microVM. The options of caisson-disk are those of the user, so this is in the environment.
 */
static int set_runtime(struct arena *a, const struct globals *g)
{
	char self[PATH_MAX];
	const char *root;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return err_sys("find the path of caisson");
	self[n] = '\0';
	int r = container_root(a, g->root, &root);
	if (r < 0)
		return r;
	if (setenv("CAISSON_DISK_RUNTIME", self, 1) < 0 ||
		setenv("CAISSON_DISK_STATE", root, 1) < 0)
		return err_sys("set the environment");
	return 0;
}

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
	if (r >= 0)
		r = set_runtime(&a, g);
	if (r < 0)
		return r;
	if (!words[0])
		return -ENOMEM;
	execv(path, words);
	return err_sys("disk: execute %s", path);
}
