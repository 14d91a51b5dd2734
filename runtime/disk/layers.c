/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs `caisson disk compare`, `caisson disk commit` and `caisson disk rebase`, which read two
 * disks at once.
 */
#include <pthread.h>

#include "disk/tool.h"

#define PIECE (1u << 20)
#define THREADS 4

/* Two disks that are read at the same positions. The shorter disk counts as zeros after its end. */
struct pair {
	struct disk *other; /* the second disk of the pair; NULL: the second disk counts as zeros */
	struct disk *to;    /* for `rebase`: the disk to which the data that differs is written */
	bool strict;
	pthread_mutex_t lock;
	uint64_t differs_at;
};

static int buffer_new(struct tool_work *w, void **ret)
{
	*ret = malloc((size_t)PIECE * 2);
	return *ret ? 0 : err_set(ENOMEM, "no memory");
}

static int read_padded(struct disk *d, uint8_t *buf, size_t len, uint64_t at)
{
	uint64_t size = d ? disk_size(d) : 0;
	size_t there = at >= size ? 0 : size - at < len ? (size_t)(size - at) : len;

	memset(buf + there, 0, len - there);
	return there ? disk_read(d, buf, there, at) : 0;
}

static uint64_t first_difference(const uint8_t *a, const uint8_t *b, size_t len)
{
	size_t i = 0;

	while (i < len && a[i] == b[i])
		i++;
	return i;
}

static int note_difference(struct pair *p, uint64_t at)
{
	pthread_mutex_lock(&p->lock);
	if (at < p->differs_at)
		p->differs_at = at;
	pthread_mutex_unlock(&p->lock);
	return 1;
}

static bool reads_zero(const struct disk_extent *e)
{
	return e->kind == DISK_HOLE || e->kind == DISK_ZERO;
}

/*
 * Says, without reading data, whether both disks of the pair are zeros at the position `at`.
 * *ret_length is the number of bytes for which the answer holds.
 */
static int both_zero(struct pair *p, const struct disk_extent *e, uint64_t at, uint64_t left,
	uint64_t *ret_length)
{
	uint64_t size = p->other ? disk_size(p->other) : 0;
	struct disk_extent o;
	unsigned depth;

	*ret_length = left < PIECE ? left : PIECE;
	if (!reads_zero(e))
		return 0;
	if (at >= size) {
		*ret_length = left;
		return 1;
	}
	int r = disk_map_chain(p->other, at, left < size - at ? left : size - at, &o, &depth);
	if (r < 0)
		return r;
	if (reads_zero(&o) || o.length < *ret_length)
		*ret_length = o.length;
	return reads_zero(&o);
}

static int compare_piece(struct tool_work *w, void *context, const struct disk_extent *e)
{
	struct pair *p = w->data;
	uint8_t *a = context, *b = a + PIECE;

	for (uint64_t at = e->start, end = e->start + e->length; at < end;) {
		uint64_t len;
		int r = both_zero(p, e, at, end - at, &len);

		if (r == 0) {
			r = read_padded(w->disk, a, (size_t)len, at);
			if (r >= 0)
				r = read_padded(p->other, b, (size_t)len, at);
			if (r >= 0 && memcmp(a, b, (size_t)len) != 0)
				return note_difference(p, at + first_difference(a, b, (size_t)len));
		}
		if (r < 0)
			return r;
		at += len;
	}
	return 0;
}

static int compare(struct tool_image *one, struct tool_image *two, struct pair *p, bool progress)
{
	uint64_t s1 = disk_size(one->disk), s2 = disk_size(two->disk);
	/*
	 * The longer disk is read to its end, because the shorter disk counts as zeros after its
	 * own end and so has to be compared with the rest.
	 */
	struct tool_work w = {.disk = s1 >= s2 ? one->disk : two->disk,
		.end = s1 >= s2 ? s1 : s2,
		.piece = PIECE,
		.align = 512,
		.threads = THREADS,
		.all = true,
		.progress = progress,
		.process = compare_piece,
		.context_new = buffer_new,
		.context_free = free,
		.data = p};

	p->other = s1 >= s2 ? two->disk : one->disk;
	return tool_run(&w);
}

int tool_compare(const struct tool_command *self, int argc, char **argv)
{
	_cleanup_image_ struct tool_image one = {TOOL_IMAGE_INIT}, two = {TOOL_IMAGE_INIT};
	struct pair p = {.lock = PTHREAD_MUTEX_INITIALIZER, .differs_at = UINT64_MAX};
	_cleanup_key_ struct tool_key key = {0}, second = {0};
	bool quiet = false, progress = false;
	const struct option_def defs[] = {
		{"format", 'f', OPTION_STRING, &one.format, "FORMAT", "FILE1's format"},
		{"second-format", 'F', OPTION_STRING, &two.format, "FORMAT", "FILE2's format"},
		{"strict", 's', OPTION_FLAG, &p.strict, NULL, "another size is a difference"},
		TOOL_OPTION_PROGRESS(progress),
		TOOL_OPTION_QUIET(quiet),
		TOOL_OPTION_SHARE(one, "read"),
		TOOL_OPTIONS_BACKING(one),
		{"key", 0, OPTION_STRING, &key.file, "FILE",
			"the file has FILE1's passphrase, if it is encrypted"},
		{"second-key", 0, OPTION_STRING, &second.file, "FILE",
			"the file has FILE2's passphrase (default: that of --key)"},
		{0},
	};
	int n;

	int r = tool_parse(self, defs, argc, argv, &n, 2, 2);
	if (r != 0)
		return r < 0 ? r : 0;
	one.path = argv[0];
	two.path = argv[1];
	two.shared = one.shared;
	two.backing = one.backing;
	two.backing_format = one.backing_format;
	r = tool_key_load(&key, "--key", &one.key);
	if (r >= 0)
		r = tool_key_load(&second, "--second-key", &two.key);
	two.key = two.key ? two.key : one.key;
	if (r >= 0)
		r = tool_open(&one);
	if (r >= 0)
		r = tool_open(&two);
	if (r < 0)
		return r;
	bool same_size = disk_size(one.disk) == disk_size(two.disk);
	if (p.strict && !same_size) {
		if (!quiet)
			printf("Strict mode: Image size mismatch!\n");
		return 1;
	}
	r = compare(&one, &two, &p, progress && !quiet);
	if (r < 0)
		return r;
	if (!quiet && r == 1)
		printf("Content mismatch at offset %llu!\n", (unsigned long long)p.differs_at);
	else if (!quiet)
		printf("%sImages are identical.\n",
			same_size ? "" : "Warning: Image size mismatch!\n");
	return r;
}

/* Writes a piece of the overlay's data into its backing file. */
static int commit_piece(struct tool_work *w, void *context, const struct disk_extent *e)
{
	struct pair *p = w->data;

	if (e->kind == DISK_ZERO)
		return disk_zero(p->to, e->start, e->length);
	int r = disk_read(w->disk, context, (size_t)e->length, e->start);
	return r < 0 ? r : disk_write(p->to, context, (size_t)e->length, e->start);
}

static int commit(struct disk *overlay, struct disk *base, bool keep, bool progress)
{
	struct pair p = {.to = base};
	struct tool_work w = {.disk = overlay,
		.end = disk_size(overlay),
		.piece = PIECE,
		.align = 1,
		.threads = THREADS,
		.top = true,
		.progress = progress,
		.process = commit_piece,
		.context_new = buffer_new,
		.context_free = free,
		.data = &p};
	int r = 0;

	if (disk_size(base) < disk_size(overlay))
		r = disk_resize(base, disk_size(overlay));
	if (r >= 0)
		r = tool_run(&w);
	if (r >= 0)
		r = disk_flush(base);
	/* The overlay is emptied only after its data is on stable storage in the backing file. */
	return r < 0 || keep ? r : qcow2_make_empty(overlay);
}

static int need_qcow2(const struct tool_image *i, const char *command)
{
	if (streq(disk_format_name(i->disk), "qcow2"))
		return 0;
	return err_set(EOPNOTSUPP, "%s: %s images have no backing file", command,
		disk_format_name(i->disk));
}

/*
 * Runs `caisson disk commit`. The overlay is opened without its backing file, because the backing
 * file is opened for writing separately.
 */
int tool_commit(const struct tool_command *self, int argc, char **argv)
{
	_cleanup_image_ struct tool_image i = {TOOL_IMAGE_INIT, .write = true, .alone = true};
	struct disk_options o = {.write = true};
	_cleanup_disk_ struct disk *base = NULL;
	_cleanup_key_ struct tool_key key = {0};
	bool keep = false, quiet = false, progress = false;
	const struct option_def defs[] = {
		{"format", 'f', OPTION_STRING, &i.format, "FORMAT", "the overlay's format: qcow2"},
		{"keep", 'd', OPTION_FLAG, &keep, NULL, "do not empty the overlay afterwards"},
		TOOL_OPTION_PROGRESS(progress),
		TOOL_OPTION_QUIET(quiet),
		{"backing", 0, OPTION_STRING, &i.backing, "on|off|DIR",
			"where backing files may be: on: beside the overlay"},
		{"backing-format", 0, OPTION_STRING, &o.backing_format, "FORMAT",
			"of backing files whose format the image does not name"},
		TOOL_OPTION_KEY(key),
		{0},
	};
	int n;

	int r = tool_parse(self, defs, argc, argv, &n, 1, 1);
	if (r != 0)
		return r < 0 ? r : 0;
	i.path = argv[0];
	r = tool_key_load(&key, "--key", &i.key);
	o.key = i.key;
	if (r >= 0)
		r = tool_open(&i);
	if (r >= 0)
		r = need_qcow2(&i, "commit");
	if (r >= 0)
		r = qcow2_need_key(i.disk);
	if (r >= 0)
		r = qcow2_open_below(i.disk, &o, &base);
	if (r >= 0)
		r = commit(i.disk, base, keep, progress && !quiet);
	if (r >= 0 && !quiet)
		r = printf("Image committed.\n") < 0 ? -EIO : 0;
	return r < 0 ? r : 0;
}

/*
 * Handles a piece of the disk that the overlay has no data for. If the new backing file differs
 * from the old one there, copies the old backing file's data into the overlay.
 */
static int rebase_piece(struct tool_work *w, void *context, const struct disk_extent *e)
{
	struct pair *p = w->data;
	uint8_t *old = context, *new = old + PIECE;
	struct disk_extent mine;

	for (uint64_t at = e->start, end = e->start + e->length; at < end; at += mine.length) {
		int r = disk_map(w->disk, at, end - at < PIECE ? end - at : PIECE, &mine);
		size_t len = (size_t)mine.length;

		if (r >= 0 && mine.kind != DISK_HOLE)
			continue;
		if (r >= 0)
			r = read_padded(w->disk, old, len, at);
		if (r >= 0)
			r = read_padded(p->other, new, len, at);
		if (r >= 0 && memcmp(old, new, len) != 0)
			r = disk_write(w->disk, old, len, at);
		if (r < 0)
			return r;
	}
	return 0;
}

static int rebase(struct disk *overlay, struct disk *other, bool progress)
{
	struct pair p = {.other = other};
	struct tool_work w = {.disk = overlay,
		.end = disk_size(overlay),
		.piece = PIECE,
		.align = 1,
		.threads = THREADS,
		.all = other != NULL,
		.progress = progress,
		.process = rebase_piece,
		.context_new = buffer_new,
		.context_free = free,
		.data = &p};

	int r = tool_run(&w);
	return r < 0 ? r : disk_flush(overlay);
}

/*
 * Opens the new backing file. Its name on the command line is relative to the overlay's folder,
 * because the name is stored in the overlay as it is given.
 */
static int open_new_base(const struct tool_image *overlay, const char *name,
	struct tool_image *base, struct arena *a)
{
	base->path = tool_beside(overlay->path, name, a);
	if (!base->path)
		return -ENOMEM;
	base->backing = overlay->backing;
	return tool_open(base);
}

struct rebase_options {
	/*
	 * value of the option -b; a list, which tells an option that was not given (no element)
	 * from an empty name, which means "no backing file"
	 */
	struct option_list name;
	bool unsafe, quiet, progress;
};

static int run_rebase(struct tool_image *i, struct tool_image *base, const struct rebase_options *o)
{
	_cleanup_arena_ struct arena a = {0};
	const char *name = o->name.n ? o->name.v[o->name.n - 1] : NULL;

	if (!name)
		return err_set(
			EINVAL, "rebase: -b is missing: the new backing file, or \"\" for none");
	if (*name && !base->format)
		return err_set(EINVAL,
			"-b %s: name its format with -F, because it is written into the image, "
			"where it "
			"is never guessed",
			name);
	i->alone = o->unsafe;
	int r = tool_open(i);
	if (r >= 0)
		r = need_qcow2(i, "rebase");
	if (r >= 0 && *name && !o->unsafe)
		r = open_new_base(i, name, base, &a);
	if (r >= 0 && !o->unsafe && (disk_backing(i->disk) || base->disk))
		r = rebase(i->disk, base->disk, o->progress && !o->quiet);
	if (r >= 0)
		r = qcow2_set_backing(i->disk, *name ? name : NULL, base->format);
	if (r >= 0 && *name && !o->unsafe)
		r = tool_allow_backing(i->path, name);
	return r;
}

int tool_rebase(const struct tool_command *self, int argc, char **argv)
{
	_cleanup_image_ struct tool_image i = {TOOL_IMAGE_INIT, .write = true};
	_cleanup_image_ struct tool_image base = {TOOL_IMAGE_INIT};
	struct rebase_options o = {0};
	_cleanup_key_ struct tool_key key = {0};
	const struct option_def defs[] = {
		{"format", 'f', OPTION_STRING, &i.format, "FORMAT", "the overlay's format: qcow2"},
		{"backing-file", 'b', OPTION_LIST, &o.name, "FILE",
			"the new backing file, relative to the overlay; \"\": none"},
		{"new-format", 'F', OPTION_STRING, &base.format, "FORMAT",
			"the new backing file's format"},
		{"unsafe", 'u', OPTION_FLAG, &o.unsafe, NULL, "change only the name"},
		TOOL_OPTION_PROGRESS(o.progress),
		TOOL_OPTION_QUIET(o.quiet),
		TOOL_OPTIONS_BACKING(i),
		TOOL_OPTION_KEY(key),
		{0},
	};
	int n;

	int r = tool_parse(self, defs, argc, argv, &n, 1, 1);
	if (r != 0)
		return r < 0 ? r : 0;
	i.path = argv[0];
	r = tool_key_load(&key, "--key", &i.key);
	base.key = i.key;
	if (r >= 0)
		r = run_rebase(&i, &base, &o);
	return r < 0 ? r : 0;
}
