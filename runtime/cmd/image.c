/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `caisson image ...` executes caisson-image. That is a program of its own, because loading the
 * libraries that read registries and layers would slow down every create and start.
 */
#include "cmd/cmd.h"

#define PROGRAM "caisson-image"
#define NEEDS "OpenSSL, zstd and ISA-L"

int cmd_image(const struct command *self, const struct globals *g, int argc, char **argv)
{
	/* argv[-1] is the word "image", and the list has NULL at its end, as that of main() has. */
	return cmd_execute(PROGRAM, NEEDS, argv - 1);
}
