/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `checkpoint`, with the options of runc. The options that only concern CRIU have no
 * effect, because only a microVM can be checkpointed, by a snapshot that contains all of the guest.
 */
#include "launch/checkpoint.h"

#include "cmd/cmd.h"

int cmd_checkpoint(const struct command *self, const struct globals *g, int argc, char **argv)
{
	struct checkpoint_options o = {.image_path = "checkpoint"};
	const char *text;
	bool flag;
	const struct option_def defs[] = {
		{"image-path", 0, OPTION_STRING, &o.image_path, "DIR",
			"where the checkpoint is written (default: checkpoint)"},
		{"leave-running", 0, OPTION_FLAG, &o.leave_running, NULL,
			"let the container go on afterwards"},
		CMD_OPTIONS_OF_CRIU(text, flag),
		{0},
	};
	struct arguments args = {.min = 1, .max = 1};
	_cleanup_container_ struct container c = CONTAINER_INIT;
	enum container_status status;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = cmd_open(g, args.v[0], true, &c);
	if (r >= 0)
		r = container_status(&c, &status);
	if (r < 0)
		return r;
	if (!c.vm)
		return err_set(ENOTSUP,
			"cannot checkpoint container \"%s\": only a container in a microVM can be "
			"checkpointed, and this one is in namespaces, for which CRIU would be "
			"needed",
			c.id);
	if (status != CONTAINER_RUNNING)
		return err_set(EINVAL,
			"cannot checkpoint container \"%s\": it is %s: expected a "
			"running one",
			c.id, container_status_name(status));
	r = launch_checkpoint(&c, &o);
	return r < 0 ? err_ctx(r, "checkpoint") : 0;
}
