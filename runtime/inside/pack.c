/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes a tar of files with libarchive. The tar names owners only by their numbers. Their names are
 * in files of the disk, but the C library would look the names up in files of the running system.
 */
#include <archive.h>
#include <archive_entry.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "base/dir.h"
#include "inside/inside.h"

#define BUFFER (256u << 10)
#define DEPTH_MAX 256
#define XATTR_MAX 65536

/* The first name under which a file with several hard links was packed. */
struct packed_link {
	dev_t dev;
	ino_t ino;
	char name[];
};

struct pack {
	struct archive *archive;
	void *links; /* tree of tsearch(3) that contains every struct packed_link */
	char *buffer;
};

static int failed(struct pack *p, const char *name)
{
	const char *text = archive_error_string(p->archive);

	return err_set(archive_errno(p->archive) > 0 ? archive_errno(p->archive) : EIO,
		"write the tar: %.500s: %s", name, text ? text : "libarchive refuses it");
}

int pack_start(struct pack **ret, int out)
{
	struct pack *p = calloc(1, sizeof(*p));

	*ret = p;
	if (p)
		p->buffer = malloc(BUFFER);
	if (!p || !p->buffer)
		return err_set(ENOMEM, "out of memory");
	p->archive = archive_write_new();
	if (!p->archive)
		return err_set(ENOMEM, "out of memory");
	if (archive_write_set_format_pax_restricted(p->archive) != ARCHIVE_OK ||
		archive_write_open_fd(p->archive, out) != ARCHIVE_OK)
		return failed(p, "its beginning");
	return 0;
}

void pack_free(struct pack *p)
{
	if (!p)
		return;
	if (p->archive)
		archive_write_free(p->archive);
	tdestroy(p->links, free);
	free(p->buffer);
	free(p);
}

int pack_finish(struct pack *p)
{
	return archive_write_close(p->archive) == ARCHIVE_OK ? 0 : failed(p, "its end");
}

static int compare_links(const void *x, const void *y)
{
	const struct packed_link *a = x, *b = y;

	if (a->dev != b->dev)
		return a->dev < b->dev ? -1 : 1;
	return a->ino < b->ino ? -1 : a->ino > b->ino;
}

/*
 * Looks for the name under which a file with several hard links was packed before. If it was not
 * packed before, remembers `name` and sets *ret to NULL.
 */
static int find_link(struct pack *p, const struct stat *st, const char *name, const char **ret)
{
	size_t len = strlen(name) + 1;
	struct packed_link *new = malloc(sizeof(*new) + len), **found = NULL;

	*ret = NULL;
	if (new) {
		*new = (struct packed_link){st->st_dev, st->st_ino};
		memcpy(new->name, name, len);
		found = tsearch(new, &p->links, compare_links);
	}
	if (!found) {
		free(new);
		return err_set(ENOMEM, "out of memory");
	}
	if (*found != new) {
		*ret = (*found)->name;
		free(new);
	}
	return 0;
}

/*
 * Adds the file's extended attributes to the tar entry. It is no error if the file system does not
 * support them.
 */
static int add_xattrs(struct archive_entry *e, const char *path)
{
	_cleanup_free_ char *names = malloc(XATTR_MAX), *value = malloc(XATTR_MAX);

	if (!names || !value)
		return err_set(ENOMEM, "out of memory");
	ssize_t n = llistxattr(path, names, XATTR_MAX);
	for (const char *x = names; n > 0 && x < names + n; x += strlen(x) + 1) {
		ssize_t len = lgetxattr(path, x, value, XATTR_MAX);
		if (len >= 0)
			archive_entry_xattr_add_entry(e, x, value, (size_t)len);
	}
	return 0;
}

/* Adds a map of the file's data to the tar entry if the file has holes. */
static void add_sparse(struct archive_entry *e, int fd, off_t size)
{
	off_t at = lseek(fd, 0, SEEK_HOLE);

	if (at < 0 || at >= size)
		return;
	for (off_t data = lseek(fd, 0, SEEK_DATA); data >= 0 && data < size;
		data = lseek(fd, at, SEEK_DATA)) {
		at = lseek(fd, data, SEEK_HOLE);
		if (at < 0)
			at = size;
		archive_entry_sparse_add_entry(e, data, at - data);
	}
	/*
	 * A file that consists of one hole has no data, but its map must not be empty, because
	 * libarchive would then store the hole as data.
	 */
	if (archive_entry_sparse_count(e) == 0)
		archive_entry_sparse_add_entry(e, size, 0);
}

/*
 * Writes `size` bytes of the file, the size that the tar entry has announced. Fails if the file has
 * become shorter than that meanwhile.
 */
static int write_content(struct pack *p, int fd, off_t size, const char *name)
{
	for (off_t at = 0; at < size;) {
		ssize_t n = pread(fd, p->buffer, BUFFER, at);
		if (n < 0)
			return err_sys("read %.500s", name);
		if (n == 0)
			return err_set(EIO, "read %.500s: it became shorter meanwhile", name);
		if (n > size - at)
			n = (ssize_t)(size - at);
		if (archive_write_data(p->archive, p->buffer, (size_t)n) < 0)
			return failed(p, name);
		at += n;
	}
	return 0;
}

static int add_target(struct archive_entry *e, int dir, const char *name)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dir, name, target, sizeof(target) - 1);

	if (n < 0)
		return err_sys("read the symbolic link %s", name);
	target[n] = '\0';
	archive_entry_set_symlink(e, target);
	return 0;
}

static bool is_utf8(const char *s)
{
	size_t left = s ? strlen(s) : 0;
	uint32_t c = 0;

	while (left > 0 && c != STR_NO_UTF8) {
		size_t n = str_utf8(s, left, &c);
		s += n;
		left -= n;
	}
	return c != STR_NO_UTF8;
}

/*
 * Writes the header of an entry. libarchive warns of a name that is not UTF-8, and writes its bytes
 * as they are (hdrcharset=BINARY).
 */
static int write_header(struct pack *p, struct archive_entry *e, const char *path)
{
	int r = archive_write_header(p->archive, e);

	if (r == ARCHIVE_OK)
		return 0;
	if (r == ARCHIVE_WARN && !(is_utf8(path) && is_utf8(archive_entry_symlink(e)) &&
					 is_utf8(archive_entry_hardlink(e))))
		return 0;
	return failed(p, path);
}

static int write_entry(
	struct pack *p, int dir, const char *name, const char *path, const struct stat *st)
{
	_cleanup_fd_ int file = -EBADF;
	char place[PATH_MAX];
	const char *first = NULL;
	int r = 0;
	struct archive_entry *e = archive_entry_new();

	if (!e)
		return err_set(ENOMEM, "out of memory");
	archive_entry_copy_stat(e, st);
	archive_entry_set_pathname(e, path);
	snprintf(place, sizeof(place), "/proc/self/fd/%d/%s", dir, name);
	r = add_xattrs(e, place);
	if (r >= 0 && S_ISLNK(st->st_mode))
		r = add_target(e, dir, name);
	if (r >= 0 && !S_ISDIR(st->st_mode) && st->st_nlink > 1)
		r = find_link(p, st, path, &first);
	if (first)
		archive_entry_set_hardlink(e, first);
	if (r >= 0 && S_ISREG(st->st_mode) && !first) {
		file = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
		if (file < 0)
			r = err_sys("open %.500s", path);
		else
			add_sparse(e, file, st->st_size);
	}
	if (first || !S_ISREG(st->st_mode))
		archive_entry_set_size(e, 0);
	if (r >= 0)
		r = write_header(p, e, path);
	archive_entry_free(e);
	return r >= 0 && file >= 0 ? write_content(p, file, st->st_size, path) : r;
}

static int pack_one(struct pack *p, int dir, const char *name, const char *path, unsigned depth);

static int pack_inside(struct pack *p, int dir, const char *name, const char *path, unsigned depth)
{
	char below[PATH_MAX];
	struct dirent *e;
	int r = 0;

	if (depth == DEPTH_MAX)
		return err_set(
			ELOOP, "%.500s: more than %d directories in each other", path, DEPTH_MAX);
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *d = dir_take_fd(fd);
	if (!d)
		return err_sys("open the directory %.500s", path);
	while (r >= 0 && (errno = 0, e = readdir(d))) {
		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		if (snprintf(below, sizeof(below), "%s/%s", path, e->d_name) >= (int)sizeof(below))
			r = err_set(ENAMETOOLONG, "%.500s/...: the name is too long", path);
		else
			r = pack_one(p, fd, e->d_name, below, depth + 1);
	}
	if (r >= 0 && errno)
		r = err_sys("read the directory %.500s", path);
	closedir(d);
	return r;
}

static int pack_one(struct pack *p, int dir, const char *name, const char *path, unsigned depth)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys("look at %.500s", path);
	/* Sockets are left out, because tar has no entries for them. */
	if (S_ISSOCK(st.st_mode))
		return 0;
	int r = write_entry(p, dir, name, path, &st);
	return r >= 0 && S_ISDIR(st.st_mode) ? pack_inside(p, dir, name, path, depth) : r;
}

int pack_add(struct pack *p, int dir, const char *name, const char *as)
{
	return pack_one(p, dir, name, as ? as : name, 0);
}
