/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs `caisson disk resize`, `caisson disk snapshot` and `caisson disk check`, which work on an
 * image as a whole.
 */
#include "base/fd.h"
#include "disk/tool.h"

static int new_size(const struct disk *d, const char *text, uint64_t *ret)
{
	uint64_t old = disk_size(d), by;

	if (text[0] != '+' && text[0] != '-')
		return tool_size(text, "SIZE", ret);
	int r = tool_size(text + 1, "SIZE", &by);
	if (r < 0)
		return r;
	if (text[0] == '-' && by > old)
		return err_set(EINVAL, "SIZE %s: the disk has only %llu bytes", text,
			(unsigned long long)old);
	*ret = text[0] == '-' ? old - by : old + by;
	return 0;
}

static int print_resized(bool quiet)
{
	return quiet || printf("Image resized.\n") >= 0 ? 0 : -EIO;
}

/*
 * Resizes an image that could not be opened, with the error -EAGAIN, because another process uses
 * it. If a microVM uses the image, the microVM's monitor resizes it. The message of the error
 * -EAGAIN must still be set.
 */
static int resize_locked(const struct tool_image *i, const char *text)
{
	_cleanup_image_ struct tool_image look = {TOOL_IMAGE_INIT, .path = i->path,
		.format = i->format, .shared = true, .alone = true};
	char why[ERR_MAX];
	uint64_t size;

	snprintf(why, sizeof(why), "%s", err_msg());
	int r = tool_open(&look);
	if (r >= 0)
		r = new_size(look.disk, text, &size);
	if (r >= 0 && size < disk_size(look.disk))
		return err_set(EBUSY,
			"resize: %s is in use, and the disk of a running machine only grows",
			i->path);
	if (r >= 0)
		r = tool_resize_running(i->path, size);
	return r == 0 ? err_set(EAGAIN, "%s", why) : r;
}

int tool_resize(const struct tool_command *self, int argc, char **argv)
{
	_cleanup_image_ struct tool_image i = {TOOL_IMAGE_INIT, .write = true};
	bool smaller = false, quiet = false;
	_cleanup_key_ struct tool_key key = {0};
	const struct option_def defs[] = {
		{"format", 'f', OPTION_STRING, &i.format, "FORMAT", "the image's format"},
		{"shrink", 0, OPTION_FLAG, &smaller, NULL,
			"allow a smaller size, which loses data"},
		TOOL_OPTIONS_BACKING(i),
		TOOL_OPTION_KEY(key),
		TOOL_OPTION_QUIET(quiet),
		{0},
	};
	/*
	 * A last argument such as "-10G" says by how much the size changes, so it is removed before
	 * the options are parsed.
	 */
	const char *difference = argc > 0 && argv[argc - 1][0] == '-' && argv[argc - 1][1] >= '0' &&
						 argv[argc - 1][1] <= '9'
					 ? argv[--argc]
					 : NULL;
	uint64_t size;
	int n;

	int r = tool_parse(self, defs, argc, argv, &n, difference ? 1 : 2, difference ? 1 : 2);
	if (r != 0)
		return r < 0 ? r : 0;
	i.path = argv[0];
	r = tool_key_load(&key, "--key", &i.key);
	if (r >= 0)
		r = tool_open(&i);
	if (r == -EAGAIN) {
		r = resize_locked(&i, difference ? difference : argv[1]);
		return r < 0 ? r : print_resized(quiet);
	}
	if (r >= 0)
		r = new_size(i.disk, difference ? difference : argv[1], &size);
	if (r < 0)
		return r;
	if (size < disk_size(i.disk) && !smaller)
		return err_set(EINVAL,
			"resize: %s has %llu bytes, and %llu are fewer, which loses data: confirm "
			"that "
			"with --shrink",
			i.path, (unsigned long long)disk_size(i.disk), (unsigned long long)size);
	r = disk_resize(i.disk, size);
	if (r >= 0)
		r = disk_flush(i.disk);
	return r < 0 ? r : print_resized(quiet);
}

static int list_snapshots(struct disk *d)
{
	_cleanup_snapshots_ struct qcow2_snapshots all = {0};
	_cleanup_strbuf_ struct strbuf out = {0};

	int r = qcow2_snapshots_read(d, &all);
	if (r >= 0)
		r = tool_add_snapshots(&out, &all);
	return r < 0 || !out.len ? r : program_print(strbuf_str(&out), out.len);
}

int tool_snapshot(const struct tool_command *self, int argc, char **argv)
{
	_cleanup_image_ struct tool_image i = {TOOL_IMAGE_INIT, .alone = true};
	const char *create = NULL, *apply = NULL, *delete = NULL;
	bool list = false, quiet = false;
	const struct option_def defs[] = {
		{"format", 'f', OPTION_STRING, &i.format, "FORMAT", "the image's format: qcow2"},
		{"list", 'l', OPTION_FLAG, &list, NULL, "list the snapshots (default)"},
		{"create", 'c', OPTION_STRING, &create, "NAME", "take one"},
		{"apply", 'a', OPTION_STRING, &apply, "NAME",
			"go back to one; what was written since is lost"},
		{"delete", 'd', OPTION_STRING, &delete, "NAME", "delete one"},
		TOOL_OPTION_SHARE(i, "list"),
		TOOL_OPTION_QUIET(quiet),
		{0},
	};
	int n;

	int r = tool_parse(self, defs, argc, argv, &n, 1, 1);
	if (r != 0)
		return r < 0 ? r : 0;
	if (list + !!create + !!apply + !!delete > 1)
		return err_set(EINVAL, "snapshot: -l, -c, -a and -d: expected one of them");
	i.path = argv[0];
	i.write = create || apply || delete;
	r = tool_open(&i);
	if (r >= 0 && !streq(disk_format_name(i.disk), "qcow2"))
		return err_set(EOPNOTSUPP, "snapshot: %s images have no snapshots inside",
			disk_format_name(i.disk));
	if (r < 0)
		return r;
	r = create   ? qcow2_snapshot_create(i.disk, create)
	    : apply  ? qcow2_snapshot_apply(i.disk, apply)
	    : delete ? qcow2_snapshot_delete(i.disk, delete)
		     : list_snapshots(i.disk);
	if (r >= 0)
		r = disk_flush(i.disk);
	return r < 0 ? r : 0;
}

struct report {
	bool quiet;
	size_t lines;
};

static void print_fault(void *data, const char *line)
{
	struct report *p = data;

	if (!p->quiet)
		fprintf(stderr, "%s\n", line);
	p->lines++;
}

static int check_json(const char *path, const char *format, const struct disk_check *c)
{
	_cleanup_json_out_ struct json_out o = {0};
	int r = json_out_init(&o, true);

	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_str(&o, "filename", path);
	json_out_str(&o, "format", format);
	json_out_u64(&o, "check-errors", 0);
	json_out_u64(&o, "image-end-offset", c->end);
	json_out_u64(&o, "corruptions", c->errors - c->errors_fixed);
	json_out_u64(&o, "leaks", c->leaks - c->leaks_fixed);
	json_out_u64(&o, "corruptions-fixed", c->errors_fixed);
	json_out_u64(&o, "leaks-fixed", c->leaks_fixed);
	json_out_u64(&o, "total-clusters", c->clusters);
	json_out_u64(&o, "allocated-clusters", c->used);
	json_out_u64(&o, "fragmented-clusters", c->fragmented);
	json_out_u64(&o, "compressed-clusters", c->compressed);
	json_out_end_object(&o);
	return program_print_json(&o);
}

static int check_text(const struct disk_check *c)
{
	_cleanup_strbuf_ struct strbuf out = {0};
	uint64_t errors = c->errors - c->errors_fixed, leaks = c->leaks - c->leaks_fixed;
	double all = c->clusters ? (double)c->clusters : 1, used = c->used ? (double)c->used : 1;
	int r = 0;

	if (c->errors_fixed || c->leaks_fixed)
		r = strbuf_addf(&out, "Repaired: %llu leaked clusters, %llu errors.\n",
			(unsigned long long)c->leaks_fixed, (unsigned long long)c->errors_fixed);
	if (r >= 0 && !errors && !leaks)
		r = strbuf_addf(&out, "No errors were found on the image.\n");
	if (r >= 0 && errors)
		r = strbuf_addf(&out,
			"\n%llu errors were found on the image. Data may be corrupted, or further "
			"writes "
			"to the\nimage may corrupt it.\n",
			(unsigned long long)errors);
	if (r >= 0 && leaks)
		r = strbuf_addf(&out,
			"\n%llu leaked clusters were found on the image. This means waste of disk "
			"space, "
			"but no\nharm to data.\n",
			(unsigned long long)leaks);
	if (r >= 0 && c->clusters)
		r = strbuf_addf(&out,
			"%llu/%llu = %.2f%% allocated, %.2f%% fragmented, %.2f%% compressed "
			"clusters\n"
			"Image end offset: %llu\n",
			(unsigned long long)c->used, (unsigned long long)c->clusters,
			100.0 * (double)c->used / all, 100.0 * (double)c->fragmented / used,
			100.0 * (double)c->compressed / used, (unsigned long long)c->end);
	return r < 0 ? r : program_print(strbuf_str(&out), out.len);
}

/*
 * Opens the image for a check. Of the formats that can be checked, qcow2 is the only one that is
 * written, and VMDK the only one whose images have tables in other files.
 */
static int open_checked(struct tool_image *i, bool repair)
{
	int r = tool_format(i->path, i->format, "-f", &i->format);

	if (r < 0)
		return r;
	i->write = repair && streq(i->format, "qcow2");
	i->alone = !(i->backing && streq(i->format, "vmdk"));
	return tool_open(i);
}

int tool_check(const struct tool_command *self, int argc, char **argv)
{
	_cleanup_image_ struct tool_image i = {
		TOOL_IMAGE_INIT, .alone = true, .ignore_dirty = true};
	const char *repair = NULL, *output = "human";
	bool json = false;
	struct report report = {0};
	struct disk_check c = {.report = print_fault, .data = &report};
	const struct option_def defs[] = {
		{"format", 'f', OPTION_STRING, &i.format, "FORMAT", "the image's format"},
		{"repair", 'r', OPTION_STRING, &repair, "leaks|all",
			"repair what was found (qcow2)"},
		{"backing", 0, OPTION_STRING, &i.backing, "on|off|DIR",
			"where the other files of a VMDK image may be: on: beside it"},
		TOOL_OPTIONS_JSON(json, output),
		{"force-share", 'U', OPTION_FLAG, &i.shared, NULL,
			"check although another process writes the image, which finds false "
			"errors"},
		{"quiet", 'q', OPTION_FLAG, &report.quiet, NULL, "do not list the faults"},
		{0},
	};
	int n;

	int r = tool_parse(self, defs, argc, argv, &n, 1, 1);
	if (r != 0)
		return r < 0 ? r : 0;
	if (repair && !streq(repair, "leaks") && !streq(repair, "all"))
		return err_set(EINVAL, "-r %s: expected leaks or all", repair);
	i.path = argv[0];
	c.fix_leaks = repair != NULL;
	c.fix_all = repair && streq(repair, "all");
	r = open_checked(&i, repair != NULL);
	if (r < 0)
		return r;
	r = disk_run_check(i.disk, &c);
	if (r == -EOPNOTSUPP) {
		fd_say(STDERR_FILENO, "caisson disk", err_msg());
		return 63;
	}
	if (r >= 0)
		r = json || streq(output, "json") ? check_json(i.path, disk_format_name(i.disk), &c)
						  : check_text(&c);
	if (r < 0)
		return r;
	return c.errors > c.errors_fixed ? 2 : c.leaks > c.leaks_fixed ? 3 : 0;
}
