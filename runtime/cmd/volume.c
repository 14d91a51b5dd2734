/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson volume ...`. A volume is a directory that containers of `run --image` mount
 * by its name.
 */
#include <stdio.h>

#include "cmd/volume.h"
#include "run/volumes.h"

static int volume_create(const struct command *self, const struct globals *g, int argc, char **argv)
{
	struct option_list labels = {0};
	const char *store = NULL;
	const struct option_def defs[] = {
		{"label", 'l', OPTION_LIST, &labels, "KEY=VALUE", "a label of the volume"},
		{"store", 0, OPTION_STRING, &store, "DIR", "the store"},
		{0},
	};
	struct arguments args = {.min = 1, .max = 1};
	_cleanup_run_volumes_ struct run_volumes c = RUN_VOLUMES_INIT;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	if (labels.n == ARRAY_SIZE(labels.v))
		return err_set(E2BIG, "--label: there are too many labels");
	r = run_volumes_open(&c, store, true);
	if (r >= 0)
		r = volume_make(&c.store, args.v[0], labels.v);
	if (r > 0)
		return err_set(EEXIST, "there is a volume \"%s\" already", args.v[0]);
	if (r < 0)
		return r;
	printf("%s\n", args.v[0]);
	return 0;
}

static void write_json(struct json_out *o, const struct volume *v)
{
	json_out_object(o, NULL);
	json_out_str(o, "name", v->name);
	json_out_str(o, "mountpoint", v->path);
	if (v->created)
		json_out_str(o, "created", v->created);
	if (v->labels)
		json_out_node(o, "labels", v->labels);
	if (v->user)
		json_out_str(o, "container", v->user);
	json_out_end_object(o);
}

static int print_json(const struct volume *v, size_t n)
{
	_cleanup_json_out_ struct json_out o = {0};
	int r = json_out_init(&o, true);

	if (r < 0)
		return r;
	json_out_array(&o, NULL);
	for (size_t i = 0; i < n; i++)
		write_json(&o, &v[i]);
	json_out_end_array(&o);
	return program_print_json(&o);
}

static int print_table(const struct volume *v, size_t n, bool quiet)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	int r = quiet ? 0 : strbuf_addf(&out, "%-24s %-20s %s\n", "NAME", "CREATED", "CONTAINER");

	for (size_t i = 0; i < n && r >= 0; i++)
		r = quiet ? strbuf_addf(&out, "%s\n", v[i].name)
			  : strbuf_addf(&out, "%-24s %-20s %s\n", v[i].name,
				    v[i].created ? v[i].created : "-", v[i].user ? v[i].user : "-");
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

static int volume_ls(const struct command *self, const struct globals *g, int argc, char **argv)
{
	bool quiet = false, json = false;
	const char *store = NULL;
	const struct option_def defs[] = {
		{"json", 0, OPTION_FLAG, &json, NULL, "print an array of JSON objects"},
		{"quiet", 'q', OPTION_FLAG, &quiet, NULL, "only the names"},
		{"store", 0, OPTION_STRING, &store, "DIR", "the store"},
		{0},
	};
	struct arguments args = {.max = 0};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_run_volumes_ struct run_volumes c = RUN_VOLUMES_INIT;
	struct volume *v;
	size_t n;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = run_volumes_open(&c, store, false);
	if (r >= 0)
		r = volumes_read(&c.store, &a, &v, &n);
	if (r < 0)
		return r;
	return json ? print_json(v, n) : print_table(v, n, quiet);
}

static int volume_inspect(
	const struct command *self, const struct globals *g, int argc, char **argv)
{
	const char *store = NULL;
	const struct option_def defs[] = {
		{"store", 0, OPTION_STRING, &store, "DIR", "the store"},
		{0},
	};
	struct arguments args = {.min = 1, .max = -1};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_run_volumes_ struct run_volumes c = RUN_VOLUMES_INIT;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	struct volume *v = arena_array(&a, (size_t)args.n, sizeof(*v));
	r = v ? run_volumes_open(&c, store, false) : -ENOMEM;
	for (int i = 0; i < args.n && r >= 0; i++)
		r = volume_read(&c.store, &a, args.v[i], &v[i]);
	return r < 0 ? r : print_json(v, (size_t)args.n);
}

static int volume_rm(const struct command *self, const struct globals *g, int argc, char **argv)
{
	bool force = false;
	const char *store = NULL;
	const struct option_def defs[] = {
		{"force", 'f', OPTION_FLAG, &force, NULL,
			"a volume that does not exist is no error"},
		{"store", 0, OPTION_STRING, &store, "DIR", "the store"},
		{0},
	};
	struct arguments args = {.min = 1, .max = -1};
	_cleanup_arena_ struct arena a = {0};
	_cleanup_run_volumes_ struct run_volumes c = RUN_VOLUMES_INIT;

	int r = cmd_parse(self, defs, argc, argv, &args);
	if (r != 0)
		return r < 0 ? r : 0;
	r = run_volumes_open(&c, store, true);
	for (int i = 0; i < args.n && r >= 0; i++) {
		r = volume_remove(&c.store, &a, args.v[i]);
		if (r == -ENOENT && force)
			r = 0;
	}
	return r;
}

static const struct command subcommands[] = {
	{"volume create", "[options] NAME", "Make an empty volume.", NULL, volume_create},
	{"volume ls", "[options]", "List the volumes.", "CONTAINER is one that mounts the volume.",
		volume_ls},
	{"volume inspect", "[options] NAME...", "Print volumes in JSON.",
		"mountpoint is the directory with the content.", volume_inspect},
	{"volume rm", "[options] NAME...", "Remove volumes with their content.",
		"A volume that a container mounts stays, and is an error.", volume_rm},
	{"volume attach", "[options] NAME CONTAINER PATH",
		"Mount a volume at PATH of a container that runs.",
		"CONTAINER is in namespaces or in a microVM. PATH is made if it is missing.",
		volume_attach},
	{"volume detach", "[options] NAME CONTAINER",
		"Undo attach, unless the container uses the volume.", NULL, volume_detach},
	{0},
};

static int print_usage(const struct command *self)
{
	printf("Usage: caisson %s %s\n\n%s\n\n%s\n\nCommands:\n", self->name, self->usage,
		self->summary, self->text);
	for (const struct command *c = subcommands; c->name; c++)
		printf("  %-10s %s\n", strchr(c->name, ' ') + 1, c->summary);
	printf("\n`caisson volume COMMAND --help` says more; caisson-image(1) says all.\n");
	return 0;
}

int cmd_volume(const struct command *self, const struct globals *g, int argc, char **argv)
{
	if (argc == 0 || streq(argv[0], "--help") || streq(argv[0], "-h") || streq(argv[0], "help"))
		return print_usage(self);
	for (const struct command *c = subcommands; c->name; c++)
		if (streq(strchr(c->name, ' ') + 1, argv[0]))
			return c->run(c, g, argc - 1, argv + 1);
	return err_set(EINVAL,
		"unknown command \"volume %.100s\": `caisson volume --help` lists them", argv[0]);
}
