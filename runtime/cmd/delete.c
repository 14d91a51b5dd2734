/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "launch/launch.h"

static int delete_one(void *data, struct container *c)
{
	const bool *force = data;
	int r = *force ? container_seize(c) : 0;

	/* -ENOENT says that the container was deleted in the meantime, so nothing is left to do. */
	if (r == -ENOENT)
		return 0;
	return r < 0 && !c->locked ? r : launch_delete(c, *force);
}

static int delete_by_name(const struct globals *g, const char *id, bool force)
{
	_cleanup_container_ struct container c = CONTAINER_INIT;
	int r;

	if (!force) {
		r = cmd_open(g, id, true, &c);
		return r < 0 ? r : launch_delete(&c, false);
	}
	/*
	 * With --force, a damaged state.json does not stop the deletion, because launch_delete()
	 * finds out what it can without the file.
	 */
	r = cmd_open_any(g, id, false, &c);
	if (r >= 0 || c.dir >= 0)
		r = container_seize(&c);
	if (r == -ENOENT)
		return 0;
	return r < 0 && !c.locked ? r : launch_delete(&c, true);
}

/* Implements `caisson rm`, which deletes several containers, as `docker rm` does. */
int cmd_rm(const struct command *self, const struct globals *g, int argc, char **argv)
{
	bool force = false;
	const struct option_def defs[] = {
		{"force", 'f', OPTION_FLAG, &force, NULL,
			"kill it first; no error if there is no such container"},
		{0},
	};
	struct arguments args = {.min = 1, .max = -1};

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	for (int i = 0; i < args.n && r >= 0; i++)
		r = delete_by_name(g, args.v[i], force);
	return r;
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

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	if (regex)
		return cmd_each(g, args.v[0], !force, delete_one, &force);
	return delete_by_name(g, args.v[0], force);
}
