/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opens the other files that an image names, such as its backing file. Anyone may have made the
 * image, so the names in it are not trusted. A name is only resolved beneath the directory that the
 * caller allows, with the flag RESOLVE_BENEATH of openat2(2), which refuses "..", absolute names
 * and symbolic links that lead out of that directory.
 */
#include <sys/stat.h>

#include "base/json.h"
#include "base/sys.h"
#include "images/disk/format.h"

#define NAME_SIZE_MAX 4096

int disk_file_size(struct disk *d, uint64_t *ret)
{
	off_t end = lseek(d->fd, 0, SEEK_END);

	if (end < 0)
		return err_sys("%s: find the file's size", d->name);
	*ret = (uint64_t)end;
	return 0;
}

int disk_read_meta(struct disk *d, void *buf, size_t len, uint64_t offset, const char *what)
{
	return disk_read_meta_of(d, d->fd, buf, len, offset, what);
}

int disk_read_meta_of(
	struct disk *d, int fd, void *buf, size_t len, uint64_t offset, const char *what)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = offset + done > INT64_MAX ? 0
						      : pread(fd, (uint8_t *)buf + done, len - done,
								(off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("%s: read the %s at offset %llu", d->name, what,
				(unsigned long long)offset);
		if (n == 0)
			return disk_err(d, EINVAL,
				"%s: found the file's end at %llu, expected %zu bytes at offset "
				"%llu: "
				"the image is cut short",
				what, (unsigned long long)(offset + done), len,
				(unsigned long long)offset);
		done += (size_t)n;
	}
	return 0;
}

/*
 * Sets *ret to `name` as a path relative to d->dir, the directory beneath which the image may name
 * files. An absolute `name` must begin with the path of d->dir, which is cut off. A relative `name`
 * starts at the folder of the image, so that folder is put in front of `name`.
 */
static int beneath(struct disk *d, const char *what, const char *name, char **ret)
{
	size_t len = d->dir->path ? strlen(d->dir->path) : 0;
	const char *slash = d->path ? strrchr(d->path, '/') : NULL;

	if (name[0] == '/') {
		while (len > 0 && d->dir->path[len - 1] == '/')
			len--;
		if (!d->dir->path || strncmp(name, d->dir->path, len) != 0 || name[len] != '/')
			return disk_err(d, EPERM,
				"%s: found \"%s\", expected a file beneath %s: name a directory "
				"above both files with --backing (annotation "
				"io.caisson.vm.image.backing), or rebase the image",
				what, name, d->dir->path ? d->dir->path : "the allowed directory");
		name += len;
		name += strspn(name, "/");
		*ret = strdup(name);
	} else if (asprintf(ret, "%.*s%s", slash ? (int)(slash - d->path + 1) : 0,
			   slash ? d->path : "", name) < 0) {
		*ret = NULL;
	}
	return *ret ? 0 : disk_err(d, ENOMEM, "no memory");
}

int disk_open_named(struct disk *d, const char *what, const char *name, bool write, char **ret_path)
{
	uint64_t flags = (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK;

	*ret_path = NULL;
	if (!d->dir)
		return disk_err(d, EPERM,
			"%s: the image names \"%s\", and no directory is allowed for such files: "
			"`--backing on` allows the image's own, `--backing DIR` another",
			what, name);
	int r = beneath(d, what, name, ret_path);
	if (r < 0)
		return r;
	int fd = sys_openat2(
		d->dir->fd, *ret_path, flags, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
	if (fd >= 0)
		return fd;
	if (errno == EXDEV)
		r = disk_err(d, EPERM, "%s: found \"%s\", which leads out of %s", what, name,
			d->dir->path ? d->dir->path : "the allowed directory");
	else
		r = err_sys("%s: %s \"%s\"", d->name, what, name);
	freep_(ret_path);
	*ret_path = NULL;
	return r;
}

/*
 * Parses the name of a backing file in the form json:{"driver": FORMAT, "file": {"driver": "file",
 * "filename": NAME}}, which QEMU writes.
 */
static int parse_json_name(struct disk *d, struct arena *a, const char **name, const char **format)
{
	const char *text = *name + strlen("json:");
	struct json *j;

	int r = json_parse(a, text, strlen(text), "backing file", &j);
	if (r < 0)
		return err_ctx(r, "%s", d->name);
	const struct json *file = json_get(j, "file");
	const char *driver = json_get_str(j, "driver");
	const char *filename = json_get_str(file, "filename");
	if (!filename)
		filename = json_get_str(j, "file.filename");
	/*
	 * A name json:{"driver": "file", "filename": NAME}, which does not say the backing file's
	 * format, is accepted too.
	 */
	if (!filename && driver && streq(driver, "file")) {
		filename = json_get_str(j, "filename");
		driver = "raw";
	}
	const char *protocol = json_get_str(file, "driver");
	if (!filename || (protocol && !streq(protocol, "file")))
		return disk_err(d, EOPNOTSUPP,
			"backing file: found \"%s\", expected a file's name: rebase the image",
			*name);
	*name = filename;
	if (driver)
		*format = driver;
	return 0;
}

static int parse_name(struct disk *d, struct arena *a, const char **name, const char **format)
{
	size_t scheme =
		strspn(*name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");

	if (str_starts(*name, "json:"))
		return parse_json_name(d, a, name, format);
	if (str_starts(*name, "file:"))
		*name += strlen("file:");
	else if ((*name)[scheme] == ':' && scheme > 0)
		return disk_err(d, EOPNOTSUPP,
			"backing file: found \"%s\" of protocol %.*s, expected a file: rebase the "
			"image",
			*name, (int)scheme, *name);
	return 0;
}

int disk_open_below(struct disk *d, const struct disk_options *o, const char *name,
	const char *format, struct disk **ret)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_free_ char *path = NULL;
	const char *plain = name;

	int r = parse_name(d, &a, &plain, &format);
	if (r < 0)
		return r;
	if (!format)
		format = o->backing_format;
	if (!format)
		return disk_err(d, EINVAL,
			"backing file \"%s\": its format is not named in the image: name it "
			"(--backing-format), because a guess could be led astray by its content",
			name);
	if (!d->dir)
		return disk_err(d, EPERM,
			"has the backing file \"%s\", and no directory is allowed for such files: "
			"`--backing on` allows the image's own, `--backing DIR` another",
			name);
	int fd = disk_open_named(d, "backing file", plain, o->write, &path);
	if (fd < 0)
		return fd;
	struct disk_options below = {.format = format,
		.name = plain,
		.write = o->write,
		.shared = o->shared,
		.alone = o->chain,
		.chain = o->chain,
		.dir = d->dir,
		.path = path,
		.backing_format = o->backing_format,
		.key = o->key,
		.cache = o->cache,
		.depth = d->depth + 1,
		.above = d};
	r = disk_open(ret, fd, &below);
	return r < 0 ? err_ctx(r, "%s: backing file", d->name) : 0;
}

int disk_open_backing(
	struct disk *d, const struct disk_options *o, const char *name, const char *format)
{
	struct disk_options below = *o;

	if (o->below)
		return 0;
	below.write = false;
	return o->alone && !o->chain ? 0 : disk_open_below(d, &below, name, format, &d->backing);
}

bool disk_is_file(int fd, const char *path)
{
	struct stat a, b;

	return fd >= 0 && fstat(fd, &a) == 0 && stat(path, &b) == 0 && a.st_dev == b.st_dev &&
	       a.st_ino == b.st_ino;
}

bool disk_has_file(const struct disk *d, const char *path)
{
	for (; d; d = d->backing) {
		int fd = d->fd;

		for (size_t i = 0; fd != -ENOENT; i++) {
			if (disk_is_file(fd, path))
				return true;
			fd = d->format->other_file ? d->format->other_file(d, i) : -ENOENT;
		}
	}
	return false;
}

int disk_read_below(struct disk *d, const struct iov_part *p, size_t len, uint64_t offset)
{
	struct disk *b = d->backing;
	size_t there = 0;

	if (b && offset < b->size) {
		struct iov_part part = *p;
		size_t skipped = 0;

		there = b->size - offset < len ? (size_t)(b->size - offset) : len;
		/*
		 * The data is read into one buffer after the other, because the buffers together
		 * may have room for more than the request's bytes.
		 */
		while (skipped < there) {
			size_t here = part.iov->iov_len - part.skip;

			if (here > there - skipped)
				here = there - skipped;
			int r = disk_read(b, (uint8_t *)part.iov->iov_base + part.skip, here,
				offset + skipped);
			if (r < 0)
				return r;
			iov_part_skip(&part, here);
			skipped += here;
		}
		if (there == len)
			return 0;
	}
	struct iov_part rest = *p;
	iov_part_skip(&rest, there);
	iov_part_clear(&rest, len - there);
	return 0;
}
