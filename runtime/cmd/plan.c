/* SPDX-License-Identifier: Apache-2.0 */
#include "cmd/cmd.h"
#include "launch/launch.h"

int cmd_plan(const struct command *self, const struct globals *g, int argc, char **argv)
{
	struct launch_options o = {.root = g->root, .id = "ID"};
	bool json = false;
	const struct option_def defs[] = {
		{"bundle", 'b', OPTION_STRING, &o.bundle, "DIR",
			"the bundle (default: this directory)"},
		{"config", 'f', OPTION_STRING, &o.config, "FILE",
			"the configuration: in this directory, or in the bundle (default: "
			"config.json)"},
		{"isolation", 0, OPTION_STRING, &o.isolation, "ns|vm",
			"namespaces, or a microVM (default: what config.json says, else ns)"},
		{"no-pivot", 0, OPTION_FLAG, &o.no_pivot, NULL, "as for create"},
		{"json", 0, OPTION_FLAG, &json, NULL, "print an array of objects, for programs"},
		{0},
	};
	struct arguments args = {.max = 1};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	_cleanup_json_out_ struct json_out out = {0};
	struct plan p;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	if (args.n)
		o.id = args.v[0];
	if (!o.isolation && g->vm)
		o.isolation = "vm";
	r = cmd_manager(g, &o.cgroup_manager);
	if (r >= 0)
		r = launch_plan(&a, &o, &p);
	if (r >= 0 && json)
		r = json_out_init(&out, true);
	if (r >= 0)
		r = json ? plan_print_json(&p, &out) : plan_print(&p, &text);
	if (r < 0)
		return r;
	return json ? program_print_json(&out) : program_print(strbuf_str(&text), text.len);
}
