/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "launch/vm_client.h"

/*
 * A machine can be paused for two reasons: an error of its disk, after which its monitor has to be
 * told to go on, and `caisson pause`.
 */
static int set_vm_frozen(struct container *c, bool frozen)
{
	if (c->disk_error) {
		int r = vm_continue(c);
		if (r < 0 || !container_is_frozen(c))
			return r;
	}
	return vm_freeze(c, frozen);
}

static int set_frozen(
	const struct command *self, const struct globals *g, int argc, char **argv, bool frozen)
{
	const struct option_def defs[] = {{0}};
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
	bool right = frozen ? status == CONTAINER_RUNNING || status == CONTAINER_CREATED
			    : status == CONTAINER_PAUSED;
	if (!right)
		return err_set(EINVAL, "cannot %s container \"%s\": %s", self->name, c.id,
			status == CONTAINER_STOPPED ? "container not running"
			: frozen                    ? "container not running: it is paused already"
						    : "container not paused");
	if (c.vm)
		return set_vm_frozen(&c, frozen);
	if (!c.cgroup.path)
		return err_set(ENOTSUP, "cannot %s container \"%s\": it has no cgroup to freeze",
			self->name, c.id);
	return cg_freeze(&c.cgroup, frozen);
}

int cmd_pause(const struct command *self, const struct globals *g, int argc, char **argv)
{
	return set_frozen(self, g, argc, argv, true);
}

int cmd_resume(const struct command *self, const struct globals *g, int argc, char **argv)
{
	return set_frozen(self, g, argc, argv, false);
}
