/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "launch/launch.h"

int cmd_start(const struct command *self, const struct globals *g, int argc, char **argv)
{
	const struct option_def defs[] = {{0}};
	struct arguments args = {.min = 1, .max = 1};
	_cleanup_container_ struct container c = CONTAINER_INIT;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = cmd_open(g, args.v[0], true, &c);
	return r < 0 ? r : launch_start(&c);
}
