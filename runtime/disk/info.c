/* SPDX-License-Identifier: Apache-2.0 */
#include <time.h>

#include "disk/tool.h"

static void json_snapshots(struct json_out *o, const struct qcow2_snapshots *all)
{
	if (!all->n)
		return;
	json_out_array(o, "snapshots");
	for (size_t i = 0; i < all->n; i++) {
		const struct qcow2_snapshot *s = &all->v[i];

		json_out_object(o, NULL);
		json_out_str(o, "id", s->id);
		json_out_str(o, "name", s->name);
		json_out_u64(o, "vm-state-size", s->vm_state_size);
		json_out_u64(o, "date-sec", s->seconds);
		json_out_u64(o, "date-nsec", s->nanoseconds);
		json_out_u64(o, "vm-clock-sec", s->vm_clock_ns / 1000000000);
		json_out_u64(o, "vm-clock-nsec", s->vm_clock_ns % 1000000000);
		if (s->has_icount && s->icount != UINT64_MAX)
			json_out_u64(o, "icount", s->icount);
		json_out_end_object(o);
	}
	json_out_end_array(o);
}

/* What is told about one image. */
struct shown {
	const char *path;
	const char *backing; /* path of the backing file; NULL: there is none */
	struct disk_info info;
	struct qcow2_snapshots all;
};

static int add_json(struct json_out *o, const struct shown *s)
{
	const struct disk_info *i = &s->info;
	int r = 0;

	json_out_object(o, NULL);
	json_out_str(o, "filename", s->path);
	json_out_str(o, "format", i->format);
	json_out_u64(o, "virtual-size", i->size);
	json_out_u64(o, "actual-size", i->used);
	if (i->cluster_size)
		json_out_u64(o, "cluster-size", i->cluster_size);
	if (i->encrypted)
		json_out_bool(o, "encrypted", true);
	if (i->backing)
		json_out_str(o, "backing-filename", i->backing);
	if (s->backing)
		json_out_str(o, "full-backing-filename", s->backing);
	if (i->backing_format)
		json_out_str(o, "backing-filename-format", i->backing_format);
	json_out_bool(o, "dirty-flag", i->dirty);
	json_snapshots(o, &s->all);
	if (i->facts) {
		json_out_object(o, "format-specific");
		json_out_str(o, "type", i->format);
		json_out_object(o, "data");
		r = tool_json_facts(o, i->facts);
		json_out_end_object(o);
		json_out_end_object(o);
	}
	json_out_end_object(o);
	return r;
}

int tool_add_snapshots(struct strbuf *out, const struct qcow2_snapshots *all)
{
	char date[32], size[32];
	int r = all->n ? strbuf_addf(out, "Snapshot list:\n%-8s %-24s %10s %19s %15s\n", "ID",
				 "TAG", "VM SIZE", "DATE", "VM CLOCK")
		       : 0;

	for (size_t i = 0; i < all->n && r >= 0; i++) {
		const struct qcow2_snapshot *s = &all->v[i];
		time_t when = (time_t)s->seconds;
		uint64_t clock = s->vm_clock_ns / 1000000;
		struct tm tm;

		localtime_r(&when, &tm);
		strftime(date, sizeof(date), "%Y-%m-%d %H:%M:%S", &tm);
		r = tool_add_line(out, "%-8s %-24s %10s %19s %02llu:%02llu:%02llu.%03llu", s->id,
			s->name, tool_human(s->vm_state_size, size, sizeof(size)), date,
			(unsigned long long)(clock / 3600000),
			(unsigned long long)(clock / 60000 % 60),
			(unsigned long long)(clock / 1000 % 60),
			(unsigned long long)(clock % 1000));
	}
	return r;
}

static int add_backing(struct strbuf *out, const struct shown *s)
{
	if (s->backing && !streq(s->backing, s->info.backing))
		return tool_add_line(
			out, "backing file: %s (actual path: %s)", s->info.backing, s->backing);
	return tool_add_line(out, "backing file: %s", s->info.backing);
}

static int add_text(struct strbuf *out, const struct shown *s)
{
	const struct disk_info *i = &s->info;
	char size[32], used[32];

	int r = tool_add_line(out, "image: %s", s->path);
	if (r >= 0)
		r = strbuf_addf(out,
			"file format: %s\nvirtual size: %s (%llu bytes)\ndisk size: %s\n",
			i->format, tool_human(i->size, size, sizeof(size)),
			(unsigned long long)i->size, tool_human(i->used, used, sizeof(used)));
	if (r >= 0 && i->encrypted)
		r = strbuf_addf(out, "encrypted: yes\n");
	if (r >= 0 && i->cluster_size)
		r = strbuf_addf(out, "cluster_size: %llu\n", (unsigned long long)i->cluster_size);
	if (r >= 0 && i->dirty)
		r = strbuf_addf(out, "cleanly shut down: no\n");
	if (r >= 0 && i->backing)
		r = add_backing(out, s);
	if (r >= 0 && i->backing_format)
		r = tool_add_line(out, "backing file format: %s", i->backing_format);
	if (r >= 0)
		r = tool_add_snapshots(out, &s->all);
	if (r >= 0 && i->facts)
		r = tool_add_facts(out, i->facts);
	return r;
}

/* Adds what is told about one image to the JSON `o`, or to the text if `o` is NULL. */
static int add_image(struct disk *d, struct shown *s, struct strbuf *text, struct json_out *o)
{
	int r = disk_get_info(d, &s->info);

	/* The path of a file that was not opened is not known to lead to a file, as in qemu-img. */
	if (r >= 0 && !s->backing && s->info.backing) {
		s->backing = str_starts(s->info.backing, "json:")
				     ? s->info.backing
				     : tool_beside(s->path, s->info.backing, &s->info.arena);
		r = s->backing ? 0 : -ENOMEM;
	}
	if (r >= 0 && streq(disk_format_name(d), "qcow2"))
		r = qcow2_snapshots_read(d, &s->all);
	if (r < 0)
		return r;
	return o ? add_json(o, s) : add_text(text, s);
}

/* Adds the image and, as far as they are open, its backing files, from the top down. */
static int add_images(const struct tool_image *i, struct strbuf *text, struct json_out *o)
{
	_cleanup_arena_ struct arena a = {0};
	const char *path = i->path;
	int r = 0;

	for (struct disk *d = i->disk; d && r >= 0; d = disk_backing(d)) {
		struct shown s = {.path = path};

		if (disk_backing(d)) {
			s.backing = tool_beside(path, disk_name(disk_backing(d)), &a);
			if (!s.backing)
				return -ENOMEM;
		}
		if (!o && d != i->disk)
			r = strbuf_addf(text, "\n");
		if (r >= 0)
			r = add_image(d, &s, text, o);
		disk_info_release(&s.info);
		qcow2_snapshots_release(&s.all);
		path = s.backing;
	}
	return r;
}

static int print_images(const struct tool_image *i, bool json)
{
	_cleanup_json_out_ struct json_out o = {0};
	_cleanup_strbuf_ struct strbuf text = {0};

	int r = json ? json_out_init(&o, true) : 0;
	if (r < 0)
		return r;
	if (json && i->chain)
		json_out_array(&o, NULL);
	r = add_images(i, &text, json ? &o : NULL);
	if (r < 0)
		return r;
	if (json && i->chain)
		json_out_end_array(&o);
	return json ? program_print_json(&o) : program_print(strbuf_str(&text), text.len);
}

static int want_json(bool json, const char *output, bool *ret)
{
	*ret = json || streq(output, "json");
	if (!streq(output, "json") && !streq(output, "human"))
		return err_set(EINVAL, "--output %s: expected human or json", output);
	return 0;
}

int tool_info(const struct tool_command *self, int argc, char **argv)
{
	_cleanup_image_ struct tool_image i = {TOOL_IMAGE_INIT, .alone = true};
	const char *output = "human";
	bool json = false;
	const struct option_def defs[] = {
		{"format", 'f', OPTION_STRING, &i.format, "FORMAT", "the image's format"},
		{"backing-chain", 0, OPTION_FLAG, &i.chain, NULL,
			"tell it of the backing files too"},
		TOOL_OPTIONS_BACKING(i),
		TOOL_OPTIONS_JSON(json, output),
		TOOL_OPTION_SHARE(i, "read"),
		{0},
	};
	int n;

	int r = tool_parse(self, defs, argc, argv, &n, 1, 1);
	if (r != 0)
		return r < 0 ? r : 0;
	i.path = argv[0];
	r = want_json(json, output, &json);
	if (r >= 0)
		r = tool_open(&i);
	if (r >= 0)
		r = print_images(&i, json);
	return r < 0 ? r : 0;
}

struct map_line {
	struct disk_extent e;
	unsigned depth;
	const char *file;
};

static bool joins(const struct map_line *a, const struct map_line *b)
{
	if (a->e.kind != b->e.kind || a->depth != b->depth || a->file != b->file)
		return false;
	if (a->e.host == DISK_NO_HOST || b->e.host == DISK_NO_HOST)
		return a->e.host == b->e.host;
	return a->e.host + a->e.length == b->e.host;
}

static int add_map(struct strbuf *text, struct json_out *o, const struct map_line *m)
{
	bool zero = m->e.kind == DISK_HOLE || m->e.kind == DISK_ZERO;

	if (!o && zero)
		return 0;
	if (!o && m->e.host == DISK_NO_HOST)
		return tool_add_line(text, "%#-16llx%#-16llx%-16s%s",
			(unsigned long long)m->e.start, (unsigned long long)m->e.length,
			m->e.kind == DISK_PACKED ? "compressed" : "encrypted", m->file);
	if (!o)
		return tool_add_line(text, "%#-16llx%#-16llx%#-16llx%s",
			(unsigned long long)m->e.start, (unsigned long long)m->e.length,
			(unsigned long long)m->e.host, m->file);
	json_out_object(o, NULL);
	json_out_u64(o, "start", m->e.start);
	json_out_u64(o, "length", m->e.length);
	json_out_u64(o, "depth", m->depth);
	json_out_bool(o, "present", m->e.kind != DISK_HOLE);
	json_out_bool(o, "zero", zero);
	json_out_bool(o, "data", !zero);
	json_out_bool(o, "compressed", m->e.kind == DISK_PACKED);
	if (m->e.host != DISK_NO_HOST)
		json_out_u64(o, "offset", m->e.host);
	json_out_end_object(o);
	return 0;
}

/* The range of the disk that is listed. */
struct map_range {
	const char *start, *length; /* values of the options; NULL: not given */
	uint64_t from, to;          /* first byte, and the byte behind the last one */
};

static int parse_range(struct map_range *m, const struct disk *d)
{
	uint64_t length = UINT64_MAX;

	if (m->start && str_to_size(m->start, &m->from) < 0)
		return err_set(EINVAL,
			"--start-offset: found \"%s\", expected an offset such as 1M", m->start);
	if (m->length && str_to_size(m->length, &length) < 0)
		return err_set(EINVAL, "--max-length: found \"%s\", expected a size such as 1M",
			m->length);
	m->to = disk_size(d);
	if (m->from < m->to && length < m->to - m->from)
		m->to = m->from + length;
	return 0;
}

static int map_all(
	struct disk *d, const struct map_range *m, struct strbuf *text, struct json_out *o)
{
	struct map_line line = {0}, next = {0};
	int r = 0;

	for (uint64_t at = m->from; at < m->to && r >= 0; at += next.e.length) {
		struct disk *file = d;

		r = disk_map_chain(d, at, m->to - at, &next.e, &next.depth);
		/*
		 * For encrypted data no offset in the file is printed, because other programs would
		 * take the bytes there for the disk's bytes.
		 */
		if (r >= 0 && next.e.kind == DISK_ENCRYPTED)
			next.e.host = DISK_NO_HOST;
		for (unsigned i = 0; i < next.depth && disk_backing(file); i++)
			file = disk_backing(file);
		next.file = disk_name(file);
		if (r >= 0 && line.e.length && joins(&line, &next)) {
			line.e.length += next.e.length;
			continue;
		}
		if (r >= 0 && line.e.length)
			r = add_map(text, o, &line);
		line = next;
	}
	return r < 0 || !line.e.length ? r : add_map(text, o, &line);
}

int tool_map(const struct tool_command *self, int argc, char **argv)
{
	_cleanup_image_ struct tool_image i = {TOOL_IMAGE_INIT};
	_cleanup_key_ struct tool_key key = {0};
	_cleanup_json_out_ struct json_out o = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	struct map_range range = {0};
	const char *output = "human";
	bool json = false;
	const struct option_def defs[] = {
		{"format", 'f', OPTION_STRING, &i.format, "FORMAT", "the image's format"},
		{"start-offset", 's', OPTION_STRING, &range.start, "OFFSET",
			"begin at this offset of the disk"},
		{"max-length", 'l', OPTION_STRING, &range.length, "SIZE", "list no more than this"},
		TOOL_OPTIONS_BACKING(i),
		TOOL_OPTION_KEY(key),
		TOOL_OPTIONS_JSON(json, output),
		TOOL_OPTION_SHARE(i, "read"),
		{0},
	};
	int n;

	int r = tool_parse(self, defs, argc, argv, &n, 1, 1);
	if (r != 0)
		return r < 0 ? r : 0;
	i.path = argv[0];
	r = want_json(json, output, &json);
	if (r >= 0)
		r = tool_key_load(&key, "--key", &i.key);
	if (r >= 0)
		r = tool_open(&i);
	if (r >= 0)
		r = parse_range(&range, i.disk);
	if (r >= 0 && json)
		r = json_out_init(&o, false);
	else if (r >= 0)
		r = strbuf_addf(
			&text, "%-16s%-16s%-16s%s\n", "Offset", "Length", "Mapped to", "File");
	if (r < 0)
		return r;
	if (json)
		json_out_array(&o, NULL);
	r = map_all(i.disk, &range, &text, json ? &o : NULL);
	if (r < 0)
		return r;
	if (json)
		json_out_end_array(&o);
	r = json ? program_print_json(&o) : program_print(strbuf_str(&text), text.len);
	return r < 0 ? r : 0;
}
