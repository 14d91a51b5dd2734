/* SPDX-License-Identifier: Apache-2.0 */
/* Implements `checkpoint`, with the options of runc: by CRIU, or by a snapshot of a microVM. */
#include "launch/checkpoint.h"

#include "cmd/cmd.h"
#include "launch/live_list.h"

int cmd_take_empty_ns(const struct option_list *values, struct criu_options *o)
{
	for (size_t i = 0; i < values->n; i++) {
		if (!streq(values->v[i], "network"))
			return err_set(EINVAL, "--empty-ns %.40s: expected network", values->v[i]);
		o->empty_network = true;
	}
	return 0;
}

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
		r = criu_check_options(&o->criu, c->vm);
	if (r >= 0 && o->criu.lazy_pages && !o->criu.page_server)
		r = err_set(EINVAL,
			"--lazy-pages: the pages are fetched from this command: add --page-server "
			"ADDRESS:PORT, where CRIU listens for that");
	return r;
}

int cmd_checkpoint(const struct command *self, const struct globals *g, int argc, char **argv)
{
	struct checkpoint_options o = {.image_path = "checkpoint", .criu = CRIU_OPTIONS_INIT};
	struct option_list empty_ns = {0};
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
			"CRIU: send the memory to this page server; listen there for --lazy-pages"},
		{"status-fd", 0, OPTION_COUNT, &o.criu.status_fd, "FD",
			"CRIU: write a zero byte to FD when --lazy-pages is ready"},
		{"tcp-skip-in-flight", 0, OPTION_FLAG, &o.criu.tcp_skip_in_flight, NULL,
			"CRIU: leave out TCP connections that are not accepted yet"},
		CMD_OPTIONS_OF_CRIU(o.criu, empty_ns),
		{0},
	};
	struct arguments args = {.min = 1, .max = 1};
	_cleanup_container_ struct container c = CONTAINER_INIT;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = cmd_open(g, args.v[0], true, &c);
	if (r >= 0)
		r = cmd_take_empty_ns(&empty_ns, &o.criu);
	if (r >= 0)
		r = check(&c, &o);
	if (r >= 0)
		r = launch_checkpoint(&c, &o);
	return r < 0 ? err_ctx(r, "checkpoint") : 0;
}
