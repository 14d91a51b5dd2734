/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson image ...`, which executes caisson-image. caisson-image is a program of its
 * own, because loading the libraries that read registries and layers would slow down every create
 * and start.
 */
#include "cmd/cmd.h"

#define PROGRAM "caisson-image"
#define NEEDS "OpenSSL, zstd and ISA-L"

int cmd_image(const struct command *self, const struct globals *g, int argc, char **argv)
{
	/*
	 * argv[-1] is the word "image", which cmd_execute() replaces, and the list ends in NULL, as
	 * that of main() does.
	 */
	return cmd_execute(PROGRAM, NEEDS, argv - 1);
}
