/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson net ...`, which executes caisson-net. caisson-net is a program of its own,
 * because loading libnftables would slow down every create and start.
 */
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "cmd/cmd.h"

/*
 * Tells caisson-net by an environment variable where this program is, because caisson-net runs
 * `caisson update` to give a running microVM an interface (network/microvm.h).
 */
static int name_program(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);

	if (n < 0)
		return err_sys("read the link /proc/self/exe");
	path[n] = '\0';
	return setenv("CAISSON_PROGRAM", path, 1) < 0 ? err_sys("set an environment variable") : 0;
}

int cmd_net(const struct command *self, const struct globals *g, int argc, char **argv)
{
	_cleanup_free_ char **words = calloc((size_t)argc + 4, sizeof(*words));
	size_t n = 1; /* cmd_execute() sets the first word */

	int r = words ? name_program() : -ENOMEM;
	if (r < 0)
		return r;
	if (g->root) {
		words[n++] = (char *)"--root";
		words[n++] = (char *)g->root;
	}
	memcpy(words + n, argv, (size_t)argc * sizeof(*words));
	return cmd_execute("caisson-net", "libnftables", words);
}
