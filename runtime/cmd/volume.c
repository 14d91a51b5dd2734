/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements `caisson volume ...`. A volume is a directory, or the disk of a microVM, that
 * containers of `run --image` mount by its name.
 */
#include <stdio.h>
#include <unistd.h>

#include "base/libexec.h"
#include "base/log.h"
#include "cmd/volume.h"
#include "run/volumes.h"

#define DISK_PROGRAM "caisson-disk"
/* smallest size in bytes of a volume's disk, on which ext4 still has room */
#define DISK_MIN (8U << 20)

/* Finds caisson-disk, which makes and reads the disks of volumes. */
static int find_tool(struct arena *a, const char **ret)
{
	int r = libexec_program(a, DISK_PROGRAM, ret);

	if (r < 0)
		return r;
	return access(*ret, X_OK) < 0
		       ? err_sys("%s (" LIBEXEC_VARIABLE " names its directory)", *ret)
		       : 0;
}

/* Reads the values of --pool and --size. disk->size is 0 if the volume is a directory. */
static int parse_pool(struct arena *a, const char *pool, const char *size, struct volume_disk *disk)
{
	*disk = (struct volume_disk){0};
	if (pool && !streq(pool, "dir") && !streq(pool, "qcow2"))
		return err_set(EINVAL, "--pool %s: expected dir or qcow2", pool);
	if (!pool || streq(pool, "dir"))
		return size ? err_set(EINVAL,
				      "--size %s: a directory has no size of its own: add --pool "
				      "qcow2",
				      size)
			    : 0;
	if (!size || str_to_size(size, &disk->size) < 0 || disk->size < DISK_MIN)
		return err_set(EINVAL,
			"--size %s: --pool qcow2 needs the size of the disk, such as 10G, and at "
			"least 8M",
			size ? size : "is missing");
	return find_tool(a, &disk->tool);
}

static int volume_create(const struct command *self, const struct globals *g, int argc, char **argv)
{
	struct option_list labels = {0};
	const char *store = NULL, *pool = NULL, *size = NULL;
	_cleanup_arena_ struct arena a = {0};
	struct volume_disk disk;
	const struct option_def defs[] = {
		{"label", 'l', OPTION_LIST, &labels, "KEY=VALUE", "a label of the volume"},
		{"pool", 0, OPTION_STRING, &pool, "dir|qcow2",
			"make a directory (default), or a disk for microVMs"},
		{"size", 0, OPTION_STRING, &size, "SIZE", "size of the disk, such as 10G"},
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
	r = parse_pool(&a, pool, size, &disk);
	if (r >= 0)
		r = run_volumes_open(&c, store, true);
	if (r >= 0)
		r = volume_make_disk(&c.store, args.v[0], labels.v, disk.size ? &disk : NULL);
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
	json_out_str(o, "pool", v->disk ? "qcow2" : "dir");
	json_out_str(o, v->disk ? "disk" : "mountpoint", v->path);
	if (v->disk) {
		json_out_u64(o, "size", v->size);
		json_out_u64(o, "used", v->used);
	}
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

/*
 * Warns of each damaged volume and moves the others to the front of the array. *n becomes their
 * number. Returns the exit code of the command.
 */
static int drop_damaged(struct volume *v, size_t *n)
{
	size_t good = 0;

	for (size_t i = 0; i < *n; i++)
		if (v[i].damage)
			log_warn("%s", v[i].damage);
		else
			v[good++] = v[i];
	int code = good < *n ? 1 : 0;
	*n = good;
	return code;
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
	int code = drop_damaged(v, &n);
	r = json ? print_json(v, n) : print_table(v, n, quiet);
	return r < 0 ? r : code;
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
			"a volume that does not exist is no error, and a damaged one is removed"},
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
		r = volume_remove(&c.store, &a, args.v[i], force);
		if (r == -ENOENT && force)
			r = 0;
	}
	return r;
}

static int volume_rescan(const struct command *self, const struct globals *g, int argc, char **argv)
{
	const char *store = NULL, *tool;
	const struct option_def defs[] = {
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
	r = find_tool(&a, &tool);
	if (r >= 0)
		r = run_volumes_open(&c, store, true);
	if (r >= 0)
		r = volumes_rescan(&c.store, &a, tool, &v, &n);
	return r < 0 ? r : drop_damaged(v, &n);
}

static const struct command subcommands[] = {
	{"volume create", "[options] NAME", "Make an empty volume.", NULL, volume_create},
	{"volume ls", "[options]", "List the volumes.", "CONTAINER is one that mounts the volume.",
		volume_ls},
	{"volume inspect", "[options] NAME...", "Print volumes in JSON.",
		"mountpoint is the directory with the content, and disk the qcow2 image with it.",
		volume_inspect},
	{"volume rescan", "[options]",
		"Read the sizes of the disks again, and remove what killed commands have left.",
		NULL, volume_rescan},
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
