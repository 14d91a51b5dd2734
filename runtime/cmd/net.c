/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson net ...`, which executes caisson-net. caisson-net is a program of its own,
 * because loading libnftables would slow down every create and start.
 */
#include "cmd/cmd.h"

int cmd_net(const struct command *self, const struct globals *g, int argc, char **argv)
{
	/*
	 * argv[-1] is the word "net", which cmd_execute() replaces, and the list ends in NULL, as
	 * that of main() does.
	 */
	return cmd_execute("caisson-net", "libnftables", argv - 1);
}
