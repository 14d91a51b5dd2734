/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `caisson net`: executes caisson-net. That is a program of its own, because loading libnftables
 * would slow down every create and start.
 */
#include "cmd/cmd.h"

int cmd_net(const struct command *self, const struct globals *g, int argc, char **argv)
{
	/* argv[-1] is the word "net", and the list has NULL at its end, as that of main() has. */
	return cmd_execute("caisson-net", "libnftables", argv - 1);
}
