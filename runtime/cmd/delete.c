/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "launch/launch.h"

static int delete_one(void *data, struct container *c)
{
	const bool *force = data;
	int r = *force ? container_seize(c) : 0;

	/* If the container was deleted in the meantime, there is nothing left to do. */
	if (r == -ENOENT)
		return 0;
	return r < 0 && !c->locked ? r : launch_delete(c, *force);
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
		return cmd_each(g, args.v[0], !force, delete_one, &force);
	if (!force) {
		r = cmd_open(g, args.v[0], true, &c);
		return r < 0 ? r : launch_delete(&c, false);
	}
	/*
	 * A damaged state.json does not stop the deletion, because launch_delete() finds what it
	 * can without that file.
	 */
	r = cmd_open_any(g, args.v[0], false, &c);
	if (r >= 0 || c.dir >= 0)
		r = container_seize(&c);
	if (r == -ENOENT)
		return 0;
	return r < 0 && !c.locked ? r : launch_delete(&c, true);
}
