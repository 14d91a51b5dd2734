/* SPDX-License-Identifier: Apache-2.0 */
/* Implements `checkpoint`, with the options of runc: by CRIU, or by a snapshot of a microVM. */
#include "launch/checkpoint.h"

#include "cmd/cmd.h"
#include "launch/live_list.h"

/*
 * Refuses a container in namespaces to which a mount was attached while it ran, because CRIU would
 * not find the mount at the restore: config.json does not have it. The monitor of a microVM refuses
 * by itself.
 */
static int check_attached(struct container *c)
{
	int r = live_list_describe(c);

	if (r < 0 || !c->attached)
		return r;
	return err_set(EBUSY,
		"%.200s was attached while the container ran, and a restore would not find it: "
		"detach it first",
		c->attached);
}

static int check(struct container *c, const struct checkpoint_options *o)
{
	enum container_status status;

	int r = container_status(c, &status);
	if (r < 0)
		return r;
	if (status != CONTAINER_RUNNING && (c->vm || status != CONTAINER_PAUSED))
		return err_set(EINVAL,
			"cannot checkpoint container \"%s\": it is %s: expected a "
			"running one",
			c->id, container_status_name(status));
	if (!c->vm)
		r = check_attached(c);
	if (r >= 0)
		r = criu_check_options(&o->criu);
	if (r >= 0 && c->vm && o->criu.pre_dump)
		r = err_set(ENOTSUP, "--pre-dump: a microVM has only whole checkpoints");
	return r;
}

int cmd_checkpoint(const struct command *self, const struct globals *g, int argc, char **argv)
{
	struct checkpoint_options o = {.image_path = "checkpoint"};
	const struct option_def defs[] = {
		{"image-path", 0, OPTION_STRING, &o.image_path, "DIR",
			"where the checkpoint is written (default: checkpoint)"},
		{"leave-running", 0, OPTION_FLAG, &o.leave_running, NULL,
			"let the container go on afterwards"},
		{"pre-dump", 0, OPTION_FLAG, &o.criu.pre_dump, NULL,
			"CRIU: save only memory, and let the container go on"},
		{"parent-path", 0, OPTION_STRING, &o.criu.parent_path, "DIR",
			"CRIU: an earlier --pre-dump, relative to --image-path"},
		{"page-server", 0, OPTION_STRING, &o.criu.page_server, "ADDRESS:PORT",
			"CRIU: send the memory to this page server"},
		{"status-fd", 0, OPTION_STRING, &o.criu.status_fd, "FD", "refused"},
		CMD_OPTIONS_OF_CRIU(o.criu),
		{0},
	};
	struct arguments args = {.min = 1, .max = 1};
	_cleanup_container_ struct container c = CONTAINER_INIT;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = cmd_open(g, args.v[0], true, &c);
	if (r >= 0)
		r = check(&c, &o);
	if (r >= 0)
		r = launch_checkpoint(&c, &o);
	return r < 0 ? err_ctx(r, "checkpoint") : 0;
}
