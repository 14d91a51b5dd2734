/* SPDX-License-Identifier: Apache-2.0 */
#include "images/guest/initramfs.h"

#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "base/fd.h"

#define HEADER_LEN 110 /* bytes of an entry's header: "070701" and 13 fields of eight digits */
#define TRAILER "TRAILER!!!"
#define COPY_CHUNK (128 * 1024)

_Static_assert(INITRAMFS_MAX_NAME == PATH_MAX - 1, "the kernel's own limit");

/* A name that was written to the archive; a node in the writer's search tree. */
struct written {
	const char *name;
	bool is_dir;
};

/* The fields of an entry's header as numbers. */
struct header {
	uint32_t mode;
	uint32_t uid;
	uint32_t gid;
	uint32_t nlink;
	uint32_t size;
	uint32_t major;
	uint32_t minor;
};

static int by_name(const void *a, const void *b)
{
	const struct written *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static int write_bytes(struct initramfs *w, const char *name, const void *data, size_t len)
{
	int r = fd_write_all(w->fd, data, len);

	if (r < 0)
		return err_set(-r, "%s: write %s: %s", w->what, name, err_text(-r));
	w->offset += len;
	return 0;
}

/*
 * Writes zeros up to the next multiple of 4 bytes, because in the archive headers and file data
 * must begin at such a multiple.
 */
static int write_padding(struct initramfs *w, const char *name)
{
	static const char zeros[3];

	return write_bytes(w, name, zeros, -w->offset & 3);
}

static int put_header(struct initramfs *w, const char *name, uint32_t ino, const struct header *h)
{
	char text[HEADER_LEN + 1];
	size_t len = strlen(name) + 1;
	int r;

	/*
	 * The fields of the header are: magic ino mode uid gid nlink mtime filesize maj min rmaj
	 * rmin namesize check.
	 */
	snprintf(text, sizeof(text), "070701%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X%08X",
		ino, h->mode, h->uid, h->gid, h->nlink, 0, h->size, 0, 0, h->major, h->minor,
		(uint32_t)len, 0);
	r = write_bytes(w, name, text, HEADER_LEN);
	if (r == 0)
		r = write_bytes(w, name, name, len);
	return r < 0 ? r : write_padding(w, name);
}

static int check_name(const struct initramfs *w, const char *name)
{
	const char *part = name;
	size_t len = strlen(name);

	if (len > INITRAMFS_MAX_NAME)
		return err_set(ENAMETOOLONG,
			"%s: found a name of %zu bytes, expected at most %d: %.64s...", w->what,
			len, INITRAMFS_MAX_NAME, name);
	if (streq(name, TRAILER))
		return err_set(EINVAL, "%s: the name %s ends a cpio archive", w->what, name);
	for (;;) {
		size_t n = strcspn(part, "/");

		if (n == 0 || (n <= 2 && strncmp(part, "..", n) == 0))
			return err_set(EINVAL,
				"%s: name \"%s\": expected a path relative to the guest's root, "
				"without empty, \".\" and \"..\" components",
				w->what, name);
		if (n > NAME_MAX)
			return err_set(ENAMETOOLONG,
				"%s: %.64s...: found a component of %zu bytes, expected at most %d",
				w->what, part, n, NAME_MAX);
		if (!part[n])
			return 0;
		part += n + 1;
	}
}

/*
 * Checks that the parent directory of the entry was written before the entry, because the kernel
 * silently skips an entry whose directory is missing.
 */
static int check_parent(struct initramfs *w, const char *name)
{
	const char *slash = strrchr(name, '/');
	_cleanup_free_ char *parent = NULL;
	struct written **found;

	if (!slash)
		return 0;
	parent = strndup(name, (size_t)(slash - name));
	if (!parent)
		return err_set(ENOMEM, "%s: %s: out of memory", w->what, name);
	found = tfind(&(struct written){.name = parent}, &w->names, by_name);
	if (!found)
		return err_set(ENOENT, "%s: %s: its directory \"%s\" must be written before it",
			w->what, name, parent);
	if (!(*found)->is_dir)
		return err_set(ENOTDIR, "%s: %s: \"%s\" was not written as a directory", w->what,
			name, parent);
	return 0;
}

/*
 * Checks the entry and writes its header. The caller then writes h->size bytes of data and the
 * padding.
 */
static int begin_entry(struct initramfs *w, const char *name, const struct header *h)
{
	struct written *e, **found;
	int r = check_name(w, name);

	if (r == 0)
		r = check_parent(w, name);
	if (r < 0)
		return r;
	if (w->entries >= INITRAMFS_MAX_ENTRIES)
		return err_set(E2BIG, "%s: %s: more than %d entries", w->what, name,
			INITRAMFS_MAX_ENTRIES);
	e = arena_alloc(&w->arena, sizeof(*e));
	if (!e)
		return -ENOMEM;
	e->name = arena_strdup(&w->arena, name);
	if (!e->name)
		return -ENOMEM;
	e->is_dir = S_ISDIR(h->mode);
	found = tsearch(e, &w->names, by_name);
	if (!found)
		return err_set(ENOMEM, "%s: %s: out of memory", w->what, name);
	if (*found != e)
		return err_set(EEXIST, "%s: %s: written twice", w->what, name);
	return put_header(w, name, ++w->entries, h);
}

static int check_mode(const struct initramfs *w, const char *name, mode_t mode)
{
	if (mode & ~(mode_t)07777)
		return err_set(EINVAL, "%s: %s: mode 0%o: expected only permission bits", w->what,
			name, mode);
	return 0;
}

int initramfs_memfd(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	return fd < 0 ? err_sys("memfd_create %s", name) : fd;
}

/*
 * Seeks to the end of fd, adds zeros up to a multiple of 4 bytes, and sets *ret to the new length.
 */
static int align_end(int fd, const char *what, uint64_t *ret)
{
	static const char zeros[3];
	off_t end = lseek(fd, 0, SEEK_END);
	int r;

	if (end < 0)
		return err_sys("%s: seek to its end", what);
	r = fd_write_all(fd, zeros, (size_t)(-end & 3));
	if (r < 0)
		return err_set(-r, "%s: write: %s", what, err_text(-r));
	*ret = (uint64_t)(end + (-end & 3));
	return 0;
}

int initramfs_begin(struct initramfs *w, int fd, const char *what)
{
	*w = (struct initramfs){.fd = fd, .what = what};
	return align_end(fd, what, &w->offset);
}

int initramfs_dir(struct initramfs *w, const char *name, const struct initramfs_attr *attr)
{
	struct header h = {
		.mode = S_IFDIR | attr->mode, .uid = attr->uid, .gid = attr->gid, .nlink = 2};
	int r = check_mode(w, name, attr->mode);

	return r < 0 ? r : begin_entry(w, name, &h);
}

/* Copies `size` bytes, the whole file fd, into the archive. */
static int copy_file(struct initramfs *w, const char *name, int fd, uint64_t size)
{
	_cleanup_free_ char *buffer = malloc(COPY_CHUNK);
	uint64_t done = 0;

	if (!buffer)
		return err_set(ENOMEM, "%s: %s: out of memory", w->what, name);
	for (;;) {
		ssize_t n = pread(fd, buffer, COPY_CHUNK, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("%s: %s: read", w->what, name);
		/*
		 * A changed length of the file is an error, because the header with the old length
		 * is written already.
		 */
		if (n == 0 ? done < size : (uint64_t)n > size - done)
			return err_set(EIO,
				"%s: %s: its length changed while it was read (was %llu)", w->what,
				name, (unsigned long long)size);
		if (n == 0)
			return 0;
		int r = write_bytes(w, name, buffer, (size_t)n);
		if (r < 0)
			return r;
		done += (uint64_t)n;
	}
}

static int check_source(const char *what, const char *name, int fd, uint64_t *ret_size)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_sys("%s: %s: stat", what, name);
	if (!S_ISREG(st.st_mode))
		return err_set(EINVAL, "%s: %s: the source is not a regular file", what, name);
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

int initramfs_file(struct initramfs *w, const char *name, const struct initramfs_attr *attr, int fd)
{
	uint64_t size = 0;
	int r = check_mode(w, name, attr->mode);

	if (r == 0)
		r = check_source(w->what, name, fd, &size);
	if (r < 0)
		return r;
	if (size > INITRAMFS_MAX_FILE)
		return err_set(EFBIG, "%s: %s: found %llu bytes, expected at most %llu", w->what,
			name, (unsigned long long)size, INITRAMFS_MAX_FILE);
	r = begin_entry(w, name,
		&(struct header){.mode = S_IFREG | attr->mode,
			.uid = attr->uid,
			.gid = attr->gid,
			.nlink = 1,
			.size = (uint32_t)size});
	if (r == 0)
		r = copy_file(w, name, fd, size);
	return r < 0 ? r : write_padding(w, name);
}

static int entry_with_data(
	struct initramfs *w, const char *name, struct header *h, const void *data, size_t len)
{
	int r;

	h->nlink = 1;
	h->size = (uint32_t)len;
	r = begin_entry(w, name, h);
	if (r == 0)
		r = write_bytes(w, name, data, len);
	return r < 0 ? r : write_padding(w, name);
}

int initramfs_data(struct initramfs *w, const char *name, const struct initramfs_attr *attr,
	const struct strbuf *data)
{
	struct header h = {.mode = S_IFREG | attr->mode, .uid = attr->uid, .gid = attr->gid};
	int r = check_mode(w, name, attr->mode);

	if (r < 0)
		return r;
	if (data->len > INITRAMFS_MAX_FILE)
		return err_set(EFBIG, "%s: %s: found %zu bytes, expected at most %llu", w->what,
			name, data->len, INITRAMFS_MAX_FILE);
	return entry_with_data(w, name, &h, strbuf_str(data), data->len);
}

int initramfs_node(struct initramfs *w, const char *name, const struct initramfs_attr *attr,
	uint32_t major, uint32_t minor)
{
	struct header h = {.mode = attr->mode,
		.uid = attr->uid,
		.gid = attr->gid,
		.nlink = 1,
		.major = major,
		.minor = minor};
	mode_t type = attr->mode & S_IFMT;
	bool device = type == S_IFCHR || type == S_IFBLK;
	int r = check_mode(w, name, attr->mode & ~(mode_t)S_IFMT);

	if (r < 0)
		return r;
	if (!device && type != S_IFIFO && type != S_IFSOCK)
		return err_set(EINVAL,
			"%s: %s: mode 0%o: expected the type of a device, a FIFO or a socket",
			w->what, name, attr->mode);
	if (device ? major > 0xfff || minor > 0xfffff : major != 0 || minor != 0)
		return err_set(EINVAL, "%s: %s: device number %u:%u: expected %s", w->what, name,
			major, minor, device ? "at most 4095:1048575" : "0:0");
	return begin_entry(w, name, &h);
}

int initramfs_end(struct initramfs *w)
{
	return put_header(w, TRAILER, 0, &(struct header){.nlink = 1});
}

static void free_nothing(void *entry)
{
	/* A node is not freed, because the nodes of the search tree live in the arena. */
}

void initramfs_release(struct initramfs *w)
{
	tdestroy(w->names, free_nothing);
	w->names = NULL;
	arena_release(&w->arena);
}

/*
 * Returns whether the file begins like an archive that Linux 6.1 unpacks. Such an archive is newc,
 * newc with checksums, or compressed in a form that the table of lib/decompress.c has.
 */
static bool is_archive(const unsigned char *head, size_t len)
{
	static const struct {
		const char *bytes;
		size_t len;
	} magics[] = {
		{"070701", 6}, {"070702", 6}, {"\x1f\x8b", 2}, /* magic number of gzip */
		{"\x1f\x9e", 2},                               /* magic number of old gzip */
		{"BZh", 3},                                    /* magic number of bzip2 */
		{"\x5d\0", 2},                                 /* magic number of lzma */
		{"\xfd\x37zXZ", 5},                            /* magic number of xz */
		{"\x89LZO", 4},                                /* magic number of lzo */
		/* magic number of an lz4 legacy frame */
		{"\x02\x21\x4c\x18", 4}, {"\x28\xb5\x2f\xfd", 4}, /* magic number of zstd */
	};

	for (size_t i = 0; i < ARRAY_SIZE(magics); i++)
		if (len >= magics[i].len && memcmp(head, magics[i].bytes, magics[i].len) == 0)
			return true;
	return false;
}

int initramfs_append(int fd, int archive, const char *what)
{
	struct initramfs w = {.fd = fd, .what = "initramfs"};
	unsigned char head[8];
	uint64_t size = 0;
	ssize_t n;
	int r = check_source(w.what, what, archive, &size);

	if (r < 0)
		return r;
	n = pread(archive, head, sizeof(head), 0);
	if (n < 0)
		return err_sys("%s: read", what);
	if (!is_archive(head, (size_t)n))
		return err_set(EINVAL,
			"%s: not an initramfs: expected a cpio archive (newc) or a compressed one",
			what);
	r = align_end(fd, w.what, &w.offset);
	return r < 0 ? r : copy_file(&w, what, archive, size);
}
