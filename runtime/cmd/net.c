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
	/*
	 * argv[-1] is the word "net", which cmd_execute() replaces, and the list ends in NULL, as
	 * that of main() does.
	 */
	int r = name_program();
	return r < 0 ? r : cmd_execute("caisson-net", "libnftables", argv - 1);
}
