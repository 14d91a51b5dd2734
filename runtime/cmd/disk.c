/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `caisson disk`: executes caisson-disk, a separate program, so that caisson needs no compression
 * libraries.
 */
#include "cmd/cmd.h"

int cmd_disk(const struct command *self, const struct globals *g, int argc, char **argv)
{
	/* argv[-1] is the word "disk", and the list has NULL at its end, as that of main() has. */
	return cmd_execute("caisson-disk", "zlib and zstd", argv - 1);
}
