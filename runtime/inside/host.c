/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Implements what caisson-inside does on the host: parses the options of a command, and starts the
 * microVM in which the command runs.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "inside/inside.h"
#include "machine/size.h"

#define DEFS_MAX 24

struct defs {
	struct option_def v[DEFS_MAX];
	size_t n;
};

static void add_def(struct defs *d, struct option_def def)
{
	d->v[d->n++] = def;
}

/*
 * Adds the options that every command has both on the host and in the guest. They say which file
 * systems of the disk are mounted.
 */
static void add_shared(struct defs *d, struct inside_options *o)
{
	add_def(d, (struct option_def){"mount", 'm', OPTION_LIST, &o->mounts,
			   "DEVICE[:PATH[:OPTIONS]]",
			   "mount this in place of what the disk's fstab says"});
	add_def(d, (struct option_def){"key", 0, OPTION_LIST, &o->keys, "[DEVICE:]FILE",
			   "the file has the passphrase of an encrypted device"});
}

static void add_extras(struct defs *d, struct inside_options *o, unsigned extras)
{
	const struct {
		unsigned bit;
		struct option_def def;
	} all[] = {
		{INSIDE_LONG, {"long", 'l', OPTION_FLAG, &o->is_long, NULL,
				      "with type, mode, owner, size and time"}},
		{INSIDE_RECURSIVE, {"recursive", 'R', OPTION_FLAG, &o->recursive, NULL,
					   "with all that is beneath"}},
		{INSIDE_HUMAN, {"human-readable", 'h', OPTION_FLAG, &o->human, NULL,
				       "sizes in powers of 1024, such as 1.5G"}},
		{INSIDE_INODES, {"inodes", 'i', OPTION_FLAG, &o->inodes, NULL,
					"count files in place of blocks"}},
		{INSIDE_JSON, {"json", 0, OPTION_FLAG, &o->json, NULL, "print JSON"}},
		{INSIDE_ARCHIVE, {"archive", 'a', OPTION_FLAG, &o->archive, NULL,
					 "keep owners, modes and extended attributes"}},
		{INSIDE_ALLOW_OTHER, {"allow-other", 0, OPTION_FLAG, &o->allow_other, NULL,
					     "all users may use the mount, not only root"}},
		{INSIDE_WRITE, {"write", 'w', OPTION_FLAG, &o->write, NULL,
				       "the file systems can be written to"}},
	};

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		if (extras & all[i].bit)
			add_def(d, all[i].def);
}

static int print_help(const struct inside_command *c, const struct option_def *defs)
{
	_cleanup_strbuf_ struct strbuf out = {0};

	int r = strbuf_addf(&out, "Usage: caisson %s %s %s\n\n%s\n\n%s\n", inside_group(c->name),
		c->name, c->usage, c->summary, c->text);
	if (r >= 0 && c->guest)
		r = strbuf_addf(&out, "\nOptions:\n");
	if (r >= 0 && c->guest)
		r = options_help(defs, &out);
	if (r >= 0)
		r = fd_write_all(STDOUT_FILENO, strbuf_str(&out), out.len);
	return r < 0 ? err_set(-r, "write to standard output: %s", err_text(-r)) : 0;
}

/*
 * Finds the format of the disk image, named as in vm.image.format: the format `named` if the user
 * named one, else the one at the end of the file name. The member `qemu` is the name that `caisson
 * disk` has for the format, if that is another name.
 */
static int find_format(const char *path, const char *named, const char **ret)
{
	static const struct {
		const char *name, *qemu;
	} formats[] = {{"raw", NULL}, {"qcow2", NULL}, {"vdi", NULL}, {"vmdk", NULL},
		{"vhd", "vpc"}, {"vhdx", NULL}};
	const char *dot = strrchr(path, '.');
	const char *text = named ? named : dot ? dot + 1 : "";

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (streq(formats[i].name, text) ||
			(formats[i].qemu && streq(formats[i].qemu, text))) {
			*ret = formats[i].name;
			return 0;
		}
	if (named)
		return err_set(EINVAL,
			"-f: found the format \"%s\", which caisson does not know: `caisson disk "
			"--help` lists them",
			named);
	return err_set(EINVAL,
		"%s: the file name does not end in a known format, and caisson does not guess the "
		"format from the content: name it with -f, such as -f qcow2",
		path);
}

int inside_memory(const char *given, uint64_t *ret)
{
	if (!given)
		return 0;
	if (str_to_size(given, ret) < 0)
		return err_set(EINVAL, "--memory %s: expected a size such as 2G", given);
	return machine_check_memory("--memory", *ret);
}

int inside_prepare(struct arena *a, const struct inside_command *c, const struct inside_options *o,
	const char *disk, struct inside_run *ret)
{
	_cleanup_free_ char *path = realpath(disk, NULL);

	*ret = (struct inside_run){.command = c, .options = o, .write = c->write || o->write};
	if (!path)
		return err_sys("%s", disk);
	ret->disk = arena_strdup(a, path);
	if (!ret->disk)
		return -ENOMEM;
	return find_format(disk, o->format, &ret->format);
}

static int run_plain(
	const struct inside_command *c, const struct inside_options *o, int argc, char **argv)
{
	_cleanup_arena_ struct arena a = {0};
	struct inside_run run;

	int r = inside_prepare(&a, c, o, argv[0], &run);
	if (r < 0)
		return r;
	run.words = argv + 1;
	run.nwords = argc - 1;
	run.terminal = c->guest == guest_shell && argc == 1 && isatty(STDIN_FILENO);
	return inside_execute(&a, &run);
}

static void add_options(struct defs *d, const struct inside_command *c, struct inside_options *o)
{
	add_def(d, (struct option_def){"format", 'f', OPTION_STRING, &o->format, "FORMAT",
			   "the image's format"});
	add_extras(d, o, c->extras);
	add_shared(d, o);
	add_def(d, (struct option_def){"backing", 0, OPTION_STRING, &o->backing, "on|off|DIR",
			   "where backing files may be: on: beside the image"});
	add_def(d, (struct option_def){"image-key", 0, OPTION_STRING, &o->image_key, "FILE",
			   "the file has the passphrase of the image, if it is encrypted"});
	add_def(d, (struct option_def){"kernel", 0, OPTION_STRING, &o->kernel, "FILE",
			   "the microVM's kernel, with its modules (default: the host's)"});
	add_def(d, (struct option_def){"memory", 0, OPTION_STRING, &o->memory, "SIZE",
			   "the microVM's memory (default: 1G)"});
	add_def(d, (struct option_def){"hypervisor", 0, OPTION_STRING, &o->hypervisor,
			   "kvm|qemu|auto", "what runs the microVM (default: auto)"});
}

int inside_host(const struct inside_command *c, int argc, char **argv)
{
	struct inside_options o = {0};
	struct defs d = {0};
	bool help;

	/* A command without a part in the guest opens no disk. */
	if (c->guest)
		add_options(&d, c, &o);
	int n = options_parse(d.v, argc, argv, c->extras & INSIDE_REST, &help);
	if (n < 0)
		return err_ctx(n, "%s", c->name);
	if (help)
		return print_help(c, d.v);
	if (n < 1 + c->min || (c->max >= 0 && n > 1 + c->max))
		return err_set(EINVAL, "%s: %s arguments. Usage: caisson %s %s %s", c->name,
			n < 1 + c->min ? "missing" : "too many", inside_group(c->name), c->name,
			c->usage);
	if (o.keys.n > INSIDE_KEYS_MAX)
		return err_set(E2BIG, "--key: given %zu times, expected at most %d", o.keys.n,
			INSIDE_KEYS_MAX);
	o.quote = isatty(STDOUT_FILENO);
	return c->host ? c->host(c, &o, n, argv) : run_plain(c, &o, n, argv);
}
