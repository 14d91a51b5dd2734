/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `caisson net`: executes caisson-net. That is a program of its own, because loading libnftables
 * would slow down every create and start.
 */
#include <stdio.h>
#include <unistd.h>

#include "base/libexec.h"
#include "cmd/cmd.h"

#define PROGRAM "caisson-net"

int cmd_net(const struct command *self, const struct globals *g, int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	const char *path;
	/* argv[-1] is the word "net", and the list has NULL at its end, as that of main() has. */
	char **words = argv - 1;

	int r = libexec_program(&a, PROGRAM, &path);
	if (r < 0)
		return r;
	words[0] = (char *)path;
	execv(path, words);
	return err_sys("execute %s (build caisson with libnftables, or set " LIBEXEC_VARIABLE
		       " to the directory it is in)",
		path);
}
