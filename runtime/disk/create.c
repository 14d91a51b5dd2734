/* SPDX-License-Identifier: Apache-2.0 */
#include <sys/stat.h>

#include "disk/tool.h"

static int parse_switch(const char *key, const char *value, bool *ret)
{
	*ret = streq(value, "on") || streq(value, "true");
	if (!*ret && !streq(value, "off") && !streq(value, "false"))
		return err_set(EINVAL, "-o %s=%s: expected on or off", key, value);
	return 0;
}

static int parse_name(const char *key, const char *value, const char *const *names, unsigned *ret)
{
	for (*ret = 0; names[*ret]; ++*ret)
		if (streq(names[*ret], value))
			return 0;
	return err_set(EINVAL, "-o %s=%s: expected %s, %s%s", key, value, names[0], names[1],
		names[2] ? ", …" : "");
}

static int parse_compat(const char *value, unsigned *version)
{
	static const char *const names[] = {"0.10", "v2", "1.1", "v3", NULL};
	unsigned i;

	int r = parse_name("compat", value, names, &i);
	*version = i < 2 ? 2 : 3;
	return r;
}

static int parse_option(const char *key, const char *value, struct tool_target *t)
{
	static const char *const preallocations[] = {"off", "metadata", "falloc", "full", NULL};
	static const char *const compressions[] = {"zlib", "zstd", NULL};
	struct qcow2_create *q = &t->qcow2;
	uint64_t n;
	unsigned i = 0;
	int r;

	if (streq(key, "preallocation")) {
		r = parse_name(key, value, preallocations, &i);
		q->preallocation = i;
		return r;
	}
	if (!streq(t->format, "qcow2"))
		return err_set(EINVAL, "-o %s: %s images have no such option", key, t->format);
	if (str_starts(key, "encrypt."))
		return tool_parse_encrypt(key, value, &t->encrypt);
	if (streq(key, "compat"))
		return parse_compat(value, &q->version);
	if (streq(key, "cluster_size")) {
		if (str_to_size(value, &q->cluster_size) < 0 || !q->cluster_size)
			return err_set(EINVAL, "-o cluster_size=%s: expected 512 to 2M", value);
		return 0;
	}
	if (streq(key, "refcount_bits")) {
		if (str_to_u64(value, &n) < 0 || n < 1 || n > 64)
			return err_set(EINVAL, "-o refcount_bits=%s: expected 1, 2, 4 … 64", value);
		q->refcount_bits = (unsigned)n;
		return 0;
	}
	if (streq(key, "compression_type")) {
		r = parse_name(key, value, compressions, &i);
		q->compression = i;
		return r;
	}
	if (streq(key, "extended_l2"))
		return parse_switch(key, value, &q->extended_l2);
	if (streq(key, "lazy_refcounts"))
		return parse_switch(key, value, &q->lazy_refcounts);
	if (streq(key, "data_file_raw"))
		return parse_switch(key, value, &q->data_file_raw);
	if (streq(key, "data_file") || streq(key, "backing_file") || streq(key, "backing_fmt")) {
		*(key[0] == 'd'                          ? &q->data_file
			: key[8] == 'f' && key[9] == 'i' ? &q->backing
							 : &q->backing_format) = value;
		return 0;
	}
	return err_set(EINVAL, "-o %s: found no such option: `-o help` lists them", key);
}

int tool_parse_target(const struct option_list *o, struct tool_target *t, struct arena *a)
{
	t->qcow2.name = t->path;
	t->qcow2.version = 3;
	for (size_t i = 0; i < o->n; i++) {
		char *list = arena_strdup(a, o->v[i]), *save = NULL;

		if (!list)
			return -ENOMEM;
		for (char *w = strtok_r(list, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
			char *value = strchr(w, '=');

			if (!value)
				return err_set(EINVAL, "-o %s: expected NAME=VALUE", w);
			*value++ = '\0';
			int r = parse_option(w, value, t);
			if (r < 0)
				return r;
		}
	}
	if (!t->qcow2.data_file)
		return 0;
	t->data_path = tool_beside(t->path, t->qcow2.data_file, a);
	return t->data_path ? 0 : -ENOMEM;
}

int tool_target_key(struct tool_target *t, const struct disk_key *key, const char *option)
{
	if (!t->encrypt.any)
		return 0;
	t->qcow2.encrypt = &t->luks;
	return tool_use_encrypt(&t->encrypt, key, option, &t->luks);
}

static int make_raw(int fd, const struct tool_target *t)
{
	off_t size = (off_t)t->qcow2.size;
	struct stat st;

	if (t->qcow2.preallocation == QCOW2_PREALLOC_METADATA)
		return err_set(EINVAL, "-o preallocation=metadata: raw images have no metadata");
	if (fstat(fd, &st) < 0)
		return err_sys("%s: stat", t->path);
	if (S_ISBLK(st.st_mode))
		return lseek(fd, 0, SEEK_END) < size
			       ? err_set(ENOSPC, "%s: the device is smaller than %llu bytes",
					 t->path, (unsigned long long)size)
			       : 0;
	if (ftruncate(fd, 0) < 0 || ftruncate(fd, size) < 0)
		return err_sys("%s: set the size to %llu", t->path, (unsigned long long)size);
	if (t->qcow2.preallocation == QCOW2_PREALLOC_OFF || !size)
		return 0;
	return disk_reserve(fd, t->path, t->qcow2.size, t->interrupt);
}

static int preallocate(const struct tool_target *t)
{
	_cleanup_image_ struct tool_image i = {
		TOOL_IMAGE_INIT, .path = t->path, .format = "qcow2", .write = true};

	/*
	 * The external data file may be at any path, because the user, and not the image, has named
	 * it.
	 */
	if (t->qcow2.data_file)
		i.backing = "/";
	int r = tool_open(&i);
	if (r >= 0)
		r = qcow2_preallocate(i.disk, t->qcow2.preallocation, t->interrupt);
	return r < 0 ? r : disk_flush(i.disk);
}

/*
 * Locks the target file. Fails if another program has opened the file as a disk, because writing to
 * the file would destroy that program's data.
 */
static int lock_target(int fd, const char *path)
{
	struct disk *d;
	const struct disk_options o = {.format = "raw", .name = path, .write = true};
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	if (copy < 0)
		return err_sys("%s: dup", path);
	int r = disk_open(&d, copy, &o);
	/*
	 * The lock of the file stays after this call, because the lock belongs to the open file
	 * description, of which fd is another descriptor.
	 */
	disk_close(d);
	return r;
}

/* Opens the target file. Sets *ret_made if the file did not exist before. */
static int open_target(const char *path, bool *ret_made)
{
	int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK;
	int fd = open(path, flags | O_EXCL, 0644);

	*ret_made = fd >= 0;
	if (fd < 0 && errno == EEXIST)
		fd = open(path, flags, 0644);
	return fd < 0 ? err_sys("%s: create", path) : fd;
}

/*
 * Refuses a backing file that is the new image itself or its data file, because both are emptied.
 * The backing file need not be there, and its own backing files are not looked at.
 */
static int check_backing_name(const struct tool_target *t, int image, int data)
{
	_cleanup_arena_ struct arena a = {0};
	const char *backing = t->qcow2.backing;

	if (!backing)
		return 0;
	const char *path = tool_beside(t->path, backing, &a);
	if (!path)
		return -ENOMEM;
	if (!disk_is_file(image, path) && !disk_is_file(data, path))
		return 0;
	return err_set(EINVAL,
		"%s: its backing file %s would be overwritten: give the new image another name",
		t->path, backing);
}

/*
 * Opens and locks the external data file, which is made if it is missing. Its content stays as it
 * is. `image` is a descriptor of the image.
 */
static int open_data_file(struct tool_target *t, int image)
{
	_cleanup_fd_ int fd = open_target(t->data_path, &t->data_made);
	if (fd < 0)
		return fd;
	if (disk_is_file(image, t->data_path))
		return err_set(EINVAL, "%s is the image itself: name another file", t->data_path);
	int r = lock_target(fd, t->data_path);
	return r < 0 ? r : take_fd(&fd);
}

/*
 * Makes the external data file as large as the disk, and empty, because the image says that the
 * disk has no data yet, and data_file_raw promises that the data file says the same.
 */
static int clear_data_file(const struct tool_target *t, int fd)
{
	const struct tool_target data = {
		.path = t->data_path, .qcow2 = {.size = t->qcow2.size}, .interrupt = -EBADF};

	return make_raw(fd, &data);
}

void tool_remove_target(struct tool_target *t)
{
	if (t->made)
		(void)unlink(t->path);
	if (t->data_made)
		(void)unlink(t->data_path);
	t->made = t->data_made = false;
}

int tool_make_target(struct tool_target *t)
{
	_cleanup_fd_ int fd = open_target(t->path, &t->made);
	if (fd < 0)
		return fd;
	_cleanup_fd_ int data = -EBADF;
	int r = lock_target(fd, t->path);
	if (r >= 0 && t->data_path) {
		data = open_data_file(t, fd);
		r = data < 0 ? err_ctx(data, "-o data_file") : 0;
	}
	if (r >= 0)
		r = check_backing_name(t, fd, data);
	if (r >= 0 && streq(t->format, "raw"))
		r = make_raw(fd, t);
	else if (r >= 0)
		r = qcow2_create(fd, &t->qcow2);
	if (r >= 0 && t->data_path)
		r = clear_data_file(t, data);
	fd_close(&fd);
	fd_close(&data);
	if (r >= 0 && t->data_path)
		r = tool_allow_backing(t->path, t->qcow2.data_file);
	if (r >= 0 && streq(t->format, "qcow2") && t->qcow2.preallocation != QCOW2_PREALLOC_OFF)
		r = preallocate(t);
	if (r < 0)
		tool_remove_target(t);
	return r;
}

int tool_open_base(
	const struct tool_target *t, const char *option, struct tool_image *i, struct arena *a)
{
	const struct qcow2_create *q = &t->qcow2;

	i->path = tool_beside(t->path, q->backing, a);
	if (!i->path)
		return -ENOMEM;
	if (!q->backing_format)
		return err_set(EINVAL,
			"%s %s: name its format with -F, because it is written into the image, "
			"where it "
			"is never guessed",
			option, q->backing);
	i->format = q->backing_format;
	i->shared = true;
	int r = tool_open(i);
	for (int n = 0; r >= 0 && n < 2; n++) {
		const char *made = n ? t->data_path : t->path;

		if (made && disk_has_file(i->disk, made))
			return err_set(EINVAL,
				"%s %s: %s would be overwritten, which is that file or one that it "
				"needs: give the new image another name",
				option, q->backing, made);
	}
	return r < 0 ? err_ctx(r, "%s %s", option, q->backing) : 0;
}

/*
 * Opens the backing file, which must exist, and takes the new disk's size from it if no size was
 * given. With `whole`, a size that would cut off the end of the backing file is an error, which
 * names the option of `caisson run`.
 */
static int look_at_backing(struct tool_target *t, const char *allowed, bool whole,
	const struct disk_key *key, struct arena *a)
{
	struct qcow2_create *q = &t->qcow2;
	_cleanup_image_ struct tool_image i = {TOOL_IMAGE_INIT, .backing = allowed, .key = key};

	int r = tool_open_base(t, "-b", &i, a);
	if (r < 0)
		return r;
	if (q->size == UINT64_MAX)
		q->size = disk_size(i.disk);
	if (whole && q->size < disk_size(i.disk))
		return err_set(EINVAL,
			"--size: found %llu bytes, expected at least the %llu of the disk, whose "
			"end would be lost",
			(unsigned long long)q->size, (unsigned long long)disk_size(i.disk));
	return 0;
}

static int check_options(struct tool_target *t, bool have_size)
{
	if (!streq(t->format, "raw") && !streq(t->format, "qcow2"))
		return err_set(EOPNOTSUPP, "-f %s: %s images are only read: create raw or qcow2",
			t->format, t->format);
	if (t->qcow2.backing && t->qcow2.preallocation != QCOW2_PREALLOC_OFF)
		return err_set(EINVAL, "-o preallocation: an overlay's clusters are taken when "
				       "they are written, because "
				       "one that is there hides the backing file");
	if (t->qcow2.backing && !streq(t->format, "qcow2"))
		return err_set(EINVAL, "-b: only qcow2 images have a backing file");
	if (!have_size && !t->qcow2.backing)
		return err_set(EINVAL, "create: the size is missing, such as 20G");
	return 0;
}

int tool_create(const struct tool_command *self, int argc, char **argv)
{
	const char *backing = NULL, *backing_format = NULL, *allowed = NULL;
	struct tool_target t = {.interrupt = -EBADF};
	struct option_list o = {0};
	bool quiet = false, unsafe = false, whole = false;
	_cleanup_key_ struct tool_key key = {0};
	const struct option_def defs[] = {
		{"format", 'f', OPTION_STRING, &t.format, "FORMAT", "raw or qcow2"},
		{"options", 'o', OPTION_LIST, &o, "NAME=VALUE,...", "properties of the image"},
		{"backing-file", 'b', OPTION_STRING, &backing, "FILE",
			"the backing file, beneath the image"},
		{"backing-format", 'F', OPTION_STRING, &backing_format, "FORMAT",
			"the backing file's format"},
		{"backing", 0, OPTION_STRING, &allowed, "on|off|DIR",
			"where the backing file's own backing file may be"},
		{"key", 0, OPTION_STRING, &key.file, "FILE",
			"the file has the passphrase of the image and its backing files"},
		{"unsafe", 'u', OPTION_FLAG, &unsafe, NULL, "the backing file need not be there"},
		{"whole", 0, OPTION_FLAG, &whole, NULL, NULL}, /* of `caisson run --size` */
		TOOL_OPTION_QUIET(quiet),
		{0},
	};
	_cleanup_arena_ struct arena a = {0};
	const struct disk_key *loaded = NULL;
	int n;

	int r = tool_parse(self, defs, argc, argv, &n, 0, 2);
	if (r == 0 && n > 0)
		t.path = argv[0];
	if (r == 0)
		r = tool_list_options(&o, &t, "-f");
	if (r == 0)
		r = tool_need_arguments(self, n, 1);
	if (r != 0)
		return r < 0 ? r : 0;
	r = tool_format(t.path, t.format, "-f", &t.format);
	if (r >= 0)
		r = tool_parse_target(&o, &t, &a);
	if (r >= 0)
		r = tool_key_load(&key, "--key", &loaded);
	if (r >= 0)
		r = tool_target_key(&t, loaded, "--key");
	if (r < 0)
		return r;
	if (backing)
		t.qcow2.backing = backing;
	if (backing_format)
		t.qcow2.backing_format = backing_format;
	t.qcow2.size = UINT64_MAX;
	r = n > 1 ? tool_size(argv[1], "SIZE", &t.qcow2.size) : 0;
	if (r >= 0)
		r = check_options(&t, n > 1);
	if (r >= 0 && t.qcow2.backing && !unsafe)
		r = look_at_backing(&t, allowed, whole, loaded, &a);
	if (r >= 0 && t.qcow2.size == UINT64_MAX)
		r = err_set(EINVAL, "create: the size is missing, such as 20G");
	if (r >= 0)
		r = tool_make_target(&t);
	if (r >= 0 && t.qcow2.backing && !unsafe)
		r = tool_allow_backing(t.path, t.qcow2.backing);
	return r < 0 ? r : 0;
}
