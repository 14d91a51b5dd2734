/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson disk`, which executes caisson-disk. caisson-disk is a program of its own, so
 * that caisson needs no compression libraries.
 */
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/libexec.h"
#include "cmd/cmd.h"

int cmd_set_runtime(const struct globals *g)
{
	_cleanup_arena_ struct arena a = {0};
	char self[PATH_MAX];
	const char *root;
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return err_sys("find the path of caisson");
	self[n] = '\0';
	int r = container_root(&a, g->root, &root);
	if (r < 0)
		return r;
	/*
	 * The path and the directory are passed in the environment, because all options of
	 * caisson-disk and caisson-inside come from the user.
	 */
	if (setenv(RUNTIME_VARIABLE, self, 1) < 0 || setenv(STATE_VARIABLE, root, 1) < 0)
		return err_sys("set the environment");
	return 0;
}

int cmd_disk(const struct command *self, const struct globals *g, int argc, char **argv)
{
	int r = cmd_set_runtime(g);

	/*
	 * argv[-1] is the word "disk", which cmd_execute() replaces, and the list ends in NULL, as
	 * that of main() does.
	 */
	return r < 0 ? r : cmd_execute("caisson-disk", "zlib and zstd", argv - 1);
}
