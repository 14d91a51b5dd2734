/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "launch/launch.h"

static int delete_one(void *data, struct container *c)
{
	const bool *force = data;

	return launch_delete(c, *force);
}

int cmd_delete(const struct command *self, const struct globals *g, int argc, char **argv)
{
	bool force = false, regex = false;
	const struct option_def defs[] = {
		{"force", 'f', OPTION_FLAG, &force, NULL,
			"kill it first; no error if there is no such container"},
		{"regex", 'r', OPTION_FLAG, &regex, NULL,
			"ID is an extended regular expression: delete all matches"},
		{0},
	};
	struct arguments args = {.min = 1, .max = 1};
	_cleanup_container_ struct container c = CONTAINER_INIT;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	if (regex)
		return cmd_each(g, args.v[0], true, delete_one, &force);
	r = (force ? cmd_open_any : cmd_open)(g, args.v[0], true, &c);
	if (r == -ENOENT && force)
		return 0;
	/*
	 * With --force, a damaged state.json is no reason to stop: launch_delete() finds out what
	 * it can without the file.
	 */
	if (r < 0 && !(force && c.locked))
		return r;
	return launch_delete(&c, force);
}
