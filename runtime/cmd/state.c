/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "launch/live_list.h"
#include "launch/vm_client.h"

/* how long, in ms, `caisson state` waits for the monitor of a machine */
#define ASK_MS 1000

/*
 * Finds out whether caisson's agent answers in a machine with an operating system of its own. If
 * the monitor does not answer, `state` says nothing of the agent, because `state` has to succeed
 * all the same.
 */
static void describe_agent(struct container *c, enum container_status status)
{
	static const char *const texts[] = {[VM_AGENT_NONE] = "does not answer",
		[VM_AGENT_CAISSON] = "answers",
		[VM_AGENT_QEMU] = "qemu-guest-agent"};
	enum vm_agent agent;

	if (status != CONTAINER_RUNNING || !cmd_is_foreign(c))
		return;
	if (vm_find_agent(c, ASK_MS, &agent) < 0)
		err_clear();
	else
		c->agent = texts[agent];
}

int cmd_state(const struct command *self, const struct globals *g, int argc, char **argv)
{
	const struct option_def defs[] = {{0}};
	struct arguments args = {.min = 1, .max = 1};
	_cleanup_container_ struct container c = CONTAINER_INIT;
	_cleanup_json_out_ struct json_out out = {0};
	enum container_status status;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = cmd_open(g, args.v[0], false, &c);
	if (r >= 0)
		r = container_status(&c, &status);
	if (r >= 0)
		r = live_list_describe(&c);
	if (r >= 0)
		r = json_out_init(&out, true);
	if (r < 0)
		return r;
	describe_agent(&c, status);
	container_put_state(
		&c, container_status_name(status), status == CONTAINER_STOPPED ? 0 : c.pid, &out);
	return program_print_json(&out);
}
