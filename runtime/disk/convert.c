/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs `caisson disk convert`, which copies a disk with several threads. Parts that are all zeros
 * are not written.
 */
#include "base/interrupt.h"
#include "disk/tool.h"

#define PIECE (1u << 20)
#define ZERO_PIECE (1u << 30)
#define THREADS 4

struct copy {
	struct disk *to;
	size_t unit; /* size of a unit in bytes; a unit of zeros only is not written */
	/* whether zeros must be written too, because the target may have old content */
	bool zeros;
	bool compress;
	int interrupt; /* signalfd of the signals that end the copy */
};

struct buffers {
	uint8_t *data, *packed;
	struct qcow2_packer *packer;
};

static void buffers_free(void *context)
{
	struct buffers *b = context;

	free(b->data);
	free(b->packed);
	qcow2_packer_free(b->packer);
	free(b);
}

static int buffers_new(struct tool_work *w, void **ret)
{
	const struct copy *c = w->data;
	struct buffers *b = calloc(1, sizeof(*b));
	int r = 0;

	*ret = b;
	if (!b)
		return err_set(ENOMEM, "no memory");
	b->data = aligned_alloc(4096, w->piece);
	if (c->compress) {
		b->packed = malloc(c->unit);
		r = b->packed ? qcow2_packer_new(c->to, &b->packer) : -ENOMEM;
	}
	return b->data && r >= 0 ? r : err_set(ENOMEM, "no memory");
}

/*
 * Says whether all bytes are zero. The first 16 bytes are looked at one by one. Then memcmp()
 * compares the data with itself, shifted by 16 bytes, because memcmp() is the fastest loop that the
 * C library has.
 */
static bool is_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < 16 && i < len; i++)
		if (p[i])
			return false;
	return len <= 16 || memcmp(p, p + 16, len - 16) == 0;
}

static int write_unit(
	const struct copy *c, struct buffers *b, const uint8_t *p, size_t len, uint64_t at)
{
	size_t packed = 0;

	if (!c->compress)
		return disk_write(c->to, p, len, at);
	/*
	 * If the disk ends within its last cluster, zeros fill the cluster up, because only whole
	 * clusters are compressed.
	 */
	if (len < c->unit)
		memset(b->data + (p - b->data) + len, 0, c->unit - len);
	int r = qcow2_compress(b->packer, p, b->packed, &packed);
	if (r >= 0 && packed == 0)
		return disk_write(c->to, p, len, at);
	return r < 0 ? r : qcow2_write_packed(c->to, at, b->packed, packed);
}

/*
 * Counts the bytes from p on that are units of zeros only (then *ret_zero is set) or units with
 * data only (then *ret_zero is not set).
 */
static size_t run_length(const struct copy *c, const uint8_t *p, size_t len, bool *ret_zero)
{
	size_t n = c->unit < len ? c->unit : len;

	*ret_zero = is_zero(p, n);
	while (n < len && !c->compress) {
		size_t here = len - n < c->unit ? len - n : c->unit;

		if (is_zero(p + n, here) != *ret_zero)
			break;
		n += here;
	}
	return n;
}

/*
 * Zeros a range, which may be very long. If the target's file system cannot punch holes, zeros are
 * written to all of it, so a signal is looked for now and then.
 */
static int zero_piece(const struct copy *c, const struct disk_extent *e)
{
	int r = 0;

	for (uint64_t at = 0; r >= 0 && at < e->length; at += ZERO_PIECE) {
		uint64_t n = e->length - at < ZERO_PIECE ? e->length - at : ZERO_PIECE;

		r = interrupt_read(c->interrupt);
		if (r >= 0)
			r = disk_zero(c->to, e->start + at, n);
	}
	return r;
}

static int copy_piece(struct tool_work *w, void *context, const struct disk_extent *e)
{
	const struct copy *c = w->data;
	struct buffers *b = context;
	size_t len = (size_t)e->length;

	int r = interrupt_read(c->interrupt);
	if (r < 0)
		return r;
	if (e->kind == DISK_HOLE || e->kind == DISK_ZERO)
		return zero_piece(c, e);
	r = disk_read(w->disk, b->data, len, e->start);
	for (size_t at = 0; at < len && r >= 0;) {
		bool zero;
		size_t n = run_length(c, b->data + at, len - at, &zero);

		if (!zero)
			r = write_unit(c, b, b->data + at, n, e->start + at);
		else if (c->zeros)
			r = disk_zero(c->to, e->start + at, n);
		at += n;
	}
	return r < 0 ? r : 0;
}

static int copy_all(struct tool_work *w, struct copy *c)
{
	bool qcow2 = streq(disk_format_name(c->to), "qcow2");
	uint64_t cluster = qcow2 ? qcow2_cluster_size(c->to) : 4096;

	w->align = c->compress ? cluster : cluster < 65536 ? 65536 : cluster;
	w->piece = w->align > PIECE ? w->align : PIECE;
	if (!c->unit || c->compress)
		c->unit = c->compress ? (size_t)cluster
			  : qcow2     ? (size_t)qcow2_subcluster_size(c->to)
				      : 4096;
	/* A compressed cluster is written as a whole, also if the source has only a part of it. */
	if (w->top && !c->compress)
		w->align = 512;
	w->process = copy_piece;
	w->context_new = buffers_new;
	w->context_free = buffers_free;
	w->data = c;
	w->end = disk_size(w->disk) < disk_size(c->to) ? disk_size(w->disk) : disk_size(c->to);
	int r = tool_run(w);
	return r < 0 ? r : disk_flush(c->to);
}

struct convert {
	struct tool_image from, to;
	struct tool_target target;
	struct copy copy;
	struct tool_key from_key, to_key;
	const char *snapshot, *cache, *sparse;
	struct option_list options;
	bool existing, is_zero, quiet, progress, out_of_order;
	int threads;
};

static int check_target(struct convert *v)
{
	const char *format = v->target.format;

	if (!streq(format, "raw") && !streq(format, "qcow2"))
		return err_set(EOPNOTSUPP, "-O %s: %s images are only read: write raw or qcow2",
			format, format);
	if (v->copy.compress && !streq(format, "qcow2"))
		return err_set(EINVAL, "-c: only qcow2 images hold compressed clusters");
	if (v->copy.compress && v->target.qcow2.encrypt)
		return err_set(EINVAL, "-c: encrypted images hold no compressed clusters");
	if (v->target.qcow2.backing && (!streq(format, "qcow2") || !v->target.qcow2.backing_format))
		return err_set(EINVAL,
			"-B %s: needs a qcow2 image, and the backing file's format with -F",
			v->target.qcow2.backing);
	if (v->is_zero && (!v->existing || v->target.qcow2.backing))
		return err_set(EINVAL, "--target-is-zero: needs -n, and a TARGET without -B");
	if (!streq(v->cache, "unsafe") && !streq(v->cache, "writeback"))
		return err_set(EINVAL, "-t %s: expected unsafe or writeback", v->cache);
	return 0;
}

/*
 * Refuses a target that is a file of the source. Without --force-share the locks refuse it too, but
 * then the message would speak of another process.
 */
static int check_two_files(const struct convert *v)
{
	const struct disk *from = v->from.disk;
	const char *data = v->target.data_path;

	if (disk_has_file(disk_backing(from), v->to.path))
		return err_set(
			EINVAL, "%s is a backing file of SOURCE: name another TARGET", v->to.path);
	if (disk_has_file(from, v->to.path))
		return err_set(EINVAL,
			"%s is both SOURCE, or a part of it, and TARGET: name another TARGET",
			v->to.path);
	if (data && disk_has_file(from, data))
		return err_set(EINVAL, "-o data_file=%s: is a file of SOURCE: name another file",
			v->target.qcow2.data_file);
	return 0;
}

/*
 * Looks at the backing file that the target gets and at its own backing files, none of which may be
 * the target, which is written. They may be where the target will find them.
 */
static int check_base(const struct convert *v)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_image_ struct tool_image base = {TOOL_IMAGE_INIT, .key = v->to.key};
	_cleanup_free_ char *directory = NULL;
	const char *name = v->target.qcow2.backing;

	int r = tool_common_directory(v->to.path, name, &directory);
	if (r < 0)
		return err_ctx(r, "-B %s", name);
	base.backing = directory;
	return tool_open_base(&v->target, "-B", &base, &a);
}

static int open_target(struct convert *v)
{
	uint64_t size = disk_size(v->from.disk);
	int r = check_two_files(v);

	if (r >= 0 && v->target.qcow2.backing)
		r = check_base(v);
	if (r < 0)
		return r;
	v->target.qcow2.size = size;
	if (!v->existing)
		r = tool_make_target(&v->target);
	if (r >= 0 && v->target.qcow2.backing)
		r = tool_allow_backing(v->to.path, v->target.qcow2.backing);
	v->to.format = v->target.format;
	v->to.write = true;
	v->to.unsafe = streq(v->cache, "unsafe");
	v->to.discard_zeroed = true;
	if (r >= 0)
		r = tool_open(&v->to);
	if (r < 0)
		return r;
	if (disk_size(v->to.disk) < size)
		return err_set(ENOSPC, "%s: found %llu bytes, expected at least the %llu of %s",
			v->to.path, (unsigned long long)disk_size(v->to.disk),
			(unsigned long long)size, v->from.path);
	v->copy.to = v->to.disk;
	v->copy.zeros = (v->existing && !v->is_zero) || v->target.qcow2.backing;
	return 0;
}

/*
 * If the option -B is given, checks that the source has a backing file. Only the source's own data
 * is copied then, because the target gets the same backing file.
 */
static int check_backing(struct convert *v)
{
	if (!v->target.qcow2.backing)
		return 0;
	if (!disk_backing(v->from.disk))
		return err_set(EINVAL,
			"-B %s: %s has no backing file, and a copy cannot have one either: use "
			"`create "
			"-b` for an overlay",
			v->target.qcow2.backing, v->from.path);
	return 0;
}

/*
 * Reads the passphrases of the source and of the target. If no passphrase is given for the target,
 * the source's passphrase is used.
 */
static int load_keys(struct convert *v)
{
	if (v->from_key.file && v->to_key.file && streq(v->from_key.file, "-") &&
		streq(v->to_key.file, "-"))
		return err_set(EINVAL, "--key - and --target-key -: standard input is read only "
				       "once: --key alone serves both images");
	int r = tool_key_load(&v->from_key, "--key", &v->from.key);
	if (r >= 0)
		r = tool_key_load(&v->to_key, "--target-key", &v->to.key);
	if (r >= 0 && !v->to.key)
		v->to.key = v->from.key;
	return r < 0 ? r : tool_target_key(&v->target, v->to.key, "--target-key");
}

static int convert(struct convert *v)
{
	struct tool_work w = {.threads = v->threads > 0 ? (unsigned)v->threads : THREADS,
		.progress = v->progress && !v->quiet};
	uint64_t unit;

	int r = load_keys(v);
	if (r >= 0)
		r = check_target(v);
	if (r >= 0 && v->sparse) {
		r = tool_size(v->sparse, "-S", &unit);
		v->copy.unit = r >= 0 && unit <= PIECE ? (size_t)unit : PIECE;
	}
	if (r >= 0)
		r = tool_open(&v->from);
	if (r >= 0)
		r = check_backing(v);
	if (r >= 0 && v->snapshot)
		r = qcow2_use_snapshot(v->from.disk, v->snapshot);
	if (r >= 0)
		r = open_target(v);
	if (r < 0)
		return r;
	w.disk = v->from.disk;
	w.top = v->target.qcow2.backing != NULL;
	w.target_backing = disk_backing(v->to.disk) ? disk_size(disk_backing(v->to.disk)) : 0;
	w.all = v->copy.zeros && !w.top;
	return copy_all(&w, &v->copy);
}

/*
 * Copies the disk. If that fails, or a signal ends it, a target that was made for it is removed,
 * because a part of a disk looks like a whole one.
 */
static int convert_or_remove(struct convert *v)
{
	_cleanup_fd_ int interrupt = interrupt_block_ends();

	if (interrupt < 0)
		return interrupt;
	v->copy.interrupt = v->target.interrupt = interrupt;
	int r = convert(v);
	if (r < 0)
		tool_remove_target(&v->target);
	return r;
}

int tool_convert(const struct tool_command *self, int argc, char **argv)
{
	struct convert v = {.from = {TOOL_IMAGE_INIT}, .to = {TOOL_IMAGE_INIT}, .cache = "unsafe"};
	const struct option_def defs[] = {
		{"source-format", 'f', OPTION_STRING, &v.from.format, "FORMAT", "SOURCE's format"},
		{"target-format", 'O', OPTION_STRING, &v.target.format, "FORMAT",
			"TARGET's format: raw or qcow2"},
		{"options", 'o', OPTION_LIST, &v.options, "NAME=VALUE,...",
			"properties of TARGET, as create takes them"},
		{"compress", 'c', OPTION_FLAG, &v.copy.compress, NULL,
			"compress TARGET's clusters"},
		TOOL_OPTION_PROGRESS(v.progress),
		TOOL_OPTION_QUIET(v.quiet),
		{"existing", 'n', OPTION_FLAG, &v.existing, NULL,
			"write into a TARGET that is there"},
		{"target-is-zero", 0, OPTION_FLAG, &v.is_zero, NULL,
			"with -n: TARGET reads as zeros, so only data is written"},
		{"target-backing", 'B', OPTION_STRING, &v.target.qcow2.backing, "FILE",
			"TARGET's backing file, the same content as SOURCE's"},
		{"target-backing-format", 'F', OPTION_STRING, &v.target.qcow2.backing_format,
			"FORMAT", "format of the file of -B"},
		{"snapshot", 'l', OPTION_STRING, &v.snapshot, "NAME",
			"copy an internal snapshot of SOURCE"},
		{"sparse", 'S', OPTION_STRING, &v.sparse, "SIZE",
			"leave out zeros in pieces of this size (default: 4k, or a cluster)"},
		{"threads", 'm', OPTION_COUNT, &v.threads, "N", "threads (default: 4)"},
		{"cache", 't', OPTION_STRING, &v.cache, "unsafe|writeback",
			"writeback: TARGET is on stable storage at the end (default: unsafe)"},
		{"out-of-order", 'W', OPTION_FLAG, &v.out_of_order, NULL, NULL},
		TOOL_OPTION_SHARE(v.from, "read"),
		TOOL_OPTIONS_BACKING(v.from),
		{"key", 0, OPTION_STRING, &v.from_key.file, "FILE",
			"the file has SOURCE's passphrase, if it is encrypted"},
		{"target-key", 0, OPTION_STRING, &v.to_key.file, "FILE",
			"the file has TARGET's passphrase (default: that of --key)"},
		{0},
	};
	_cleanup_arena_ struct arena a = {0};
	int n;

	int r = tool_parse(self, defs, argc, argv, &n, 0, 2);
	if (r == 0 && n == 2)
		v.to.path = v.target.path = argv[1];
	if (r == 0)
		r = tool_list_options(&v.options, &v.target, "-O");
	if (r == 0)
		r = tool_need_arguments(self, n, 2);
	if (r != 0)
		return r < 0 ? r : 0;
	v.from.path = argv[0];
	r = tool_format(v.to.path, v.target.format, "-O", &v.target.format);
	if (r >= 0)
		r = tool_parse_target(&v.options, &v.target, &a);
	if (r >= 0)
		r = convert_or_remove(&v);
	tool_image_release(&v.from);
	tool_image_release(&v.to);
	tool_key_release(&v.from_key);
	tool_key_release(&v.to_key);
	return r < 0 ? r : 0;
}
