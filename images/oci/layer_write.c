/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a layer. libarchive makes the tar, with PAX headers where a name, a time or an attribute
 * needs them. The tar's bytes go to the digest of the tar, and through the compressor into the
 * blob.
 */
#include "images/oci/layer_write.h"

#include <archive.h>
#include <archive_entry.h>
#include <limits.h>
#include <linux/limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "images/oci/compress.h"

#define COPY_SIZE (256u << 10)
#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"

struct link {
	ino_t inode;
	char path[];
};

struct writing {
	const struct layer_writing *options;
	struct blob_writer blob;
	struct compressor compressor;
	struct hasher hasher; /* computes the digest of the tar */
	struct archive *archive;
	struct archive_entry *entry;
	void *links; /* tree for tsearch(3) of struct link: files that have several names */
	char *buf;
	int failure;
	uint64_t entries;
};

int layer_compression_parse(const char *text, enum layer_compression *ret)
{
	static const char *const names[] = {
		[LAYER_GZIP] = "gzip", [LAYER_ZSTD] = "zstd", [LAYER_PLAIN] = "none"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(text, names[i])) {
			*ret = (enum layer_compression)i;
			return 0;
		}
	return err_set(EINVAL, "--compression %.100s: expected gzip, zstd or none", text);
}

static int compare_links(const void *a, const void *b)
{
	const struct link *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

/* Takes the next bytes of the tar. libarchive calls this function. */
static la_ssize_t on_bytes(struct archive *a, void *data, const void *bytes, size_t len)
{
	struct writing *w = data;

	w->failure = hasher_update(&w->hasher, bytes, len);
	if (w->failure >= 0)
		w->failure = compressor_add(&w->compressor, bytes, len);
	if (w->failure >= 0)
		return (la_ssize_t)len;
	archive_set_error(a, -w->failure, "the layer cannot be written");
	return -1;
}

/*
 * Returns the error of a failed call of libarchive. If on_bytes() has failed, the error message is
 * that of on_bytes().
 */
static int tar_error(struct writing *w, const char *path)
{
	return w->failure < 0 ? w->failure
			      : err_set(EIO, "write /%s to the layer: %s", path,
					archive_error_string(w->archive));
}

static int put_header(struct writing *w, const char *path)
{
	int r = archive_write_header(w->archive, w->entry);

	w->entries += *path != '\0';
	return r == ARCHIVE_OK || r == ARCHIVE_WARN ? 0 : tar_error(w, path);
}

/*
 * Returns whether an extended attribute of a file gets into the layer. Attributes of overlayfs are
 * left out, because they describe how the store keeps a layer, and SELinux labels, because the host
 * gives them.
 */
static bool is_kept(const char *name)
{
	return !strstr(name, ".overlay.") && !streq(name, "security.selinux");
}

static int add_xattr(struct writing *w, const char *proc, const char *path, const char *name)
{
	_cleanup_free_ char *value = malloc(XATTR_SIZE_MAX);

	if (!value)
		return err_set(ENOMEM, "out of memory");
	ssize_t n = lgetxattr(proc, name, value, XATTR_SIZE_MAX);
	if (n < 0)
		return errno == ENODATA ? 0 : err_sys("read the attribute %s of /%s", name, path);
	archive_entry_xattr_add_entry(w->entry, name, value, (size_t)n);
	return 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/*
 * Adds the file's extended attributes to the entry. The path leads through the descriptor of the
 * directory and its last component is not followed, so the path does not leave the tree.
 */
static int add_xattrs(struct writing *w, const struct upper_entry *e)
{
	_cleanup_free_ char *list = malloc(XATTR_LIST_MAX);
	_cleanup_free_ const char **names = NULL;
	char proc[NAME_MAX + 64];
	size_t count = 0;
	int r = 0;

	if (!list)
		return err_set(ENOMEM, "out of memory");
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d/%s", e->parent, e->name);
	ssize_t n = llistxattr(proc, list, XATTR_LIST_MAX);
	if (n <= 0)
		return n == 0 || errno == EOPNOTSUPP || errno == ENOENT
			       ? 0
			       : err_sys("read the attributes of /%s", e->path);
	names = calloc((size_t)n, sizeof(*names));
	if (!names)
		return err_set(ENOMEM, "out of memory");
	for (const char *p = list; p < list + n; p += strlen(p) + 1)
		if (is_kept(p))
			names[count++] = p;
	/*
	 * The names of the attributes are sorted, so that the same file always gives the same
	 * bytes, because the kernel returns the names in no fixed order.
	 */
	if (count)
		qsort(names, count, sizeof(*names), compare_names);
	for (size_t i = 0; i < count && r >= 0; i++)
		r = add_xattr(w, proc, e->path, names[i]);
	return r;
}

static void set_stat(struct writing *w, const struct upper_entry *e)
{
	struct archive_entry *a = w->entry;

	archive_entry_set_mode(a, e->st.st_mode);
	archive_entry_set_uid(a, e->st.st_uid);
	archive_entry_set_gid(a, e->st.st_gid);
	archive_entry_set_mtime(a, e->st.st_mtim.tv_sec, e->st.st_mtim.tv_nsec);
	archive_entry_set_size(a, 0);
	if (S_ISCHR(e->st.st_mode) || S_ISBLK(e->st.st_mode)) {
		archive_entry_set_rdevmajor(a, major(e->st.st_rdev));
		archive_entry_set_rdevminor(a, minor(e->st.st_rdev));
	}
}

/*
 * Files with several names are written once. Sets *ret to the first name of the file if the file
 * has been written under another name already, else to NULL.
 */
static int find_link(struct writing *w, const struct upper_entry *e, const char **ret)
{
	size_t len = strlen(e->path) + 1;

	*ret = NULL;
	if (S_ISDIR(e->st.st_mode) || e->st.st_nlink < 2)
		return 0;
	struct link *l = malloc(sizeof(*l) + len);
	if (!l)
		return err_set(ENOMEM, "out of memory");
	l->inode = e->st.st_ino;
	memcpy(l->path, e->path, len);
	struct link **found = tsearch(l, &w->links, compare_links);
	if (!found) {
		free(l);
		return err_set(ENOMEM, "out of memory");
	}
	if (*found != l) {
		free(l);
		*ret = (*found)->path;
	}
	return 0;
}

/*
 * Writes exactly as many bytes as the file's header in the tar promises, although a running
 * container may change the file meanwhile: missing bytes become zeros, and further bytes are left
 * out.
 */
static int put_data(struct writing *w, int fd, const struct upper_entry *e)
{
	uint64_t left = (uint64_t)e->st.st_size;

	while (left) {
		size_t want = left < COPY_SIZE ? (size_t)left : COPY_SIZE;
		ssize_t n = read(fd, w->buf, want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("read /%s", e->path);
		if (n == 0) {
			memset(w->buf, 0, want);
			n = (ssize_t)want;
		}
		if (archive_write_data(w->archive, w->buf, (size_t)n) != n)
			return tar_error(w, e->path);
		left -= (uint64_t)n;
	}
	return 0;
}

static int put_file(struct writing *w, const struct upper_entry *e)
{
	_cleanup_fd_ int fd = openat(
		e->parent, e->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys("open /%s", e->path);
	if (st.st_ino != e->st.st_ino || !S_ISREG(st.st_mode))
		return err_set(
			EAGAIN, "/%s was replaced meanwhile: pause the container first", e->path);
	archive_entry_set_size(w->entry, e->st.st_size);
	int r = put_header(w, e->path);
	return r < 0 ? r : put_data(w, fd, e);
}

static int set_link_target(struct writing *w, const struct upper_entry *e)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(e->parent, e->name, target, sizeof(target) - 1);

	if (n < 0)
		return err_sys("read the link /%s", e->path);
	target[n] = '\0';
	archive_entry_copy_symlink(w->entry, target);
	return 0;
}

static int put_entry(struct writing *w, const struct upper_entry *e)
{
	char name[PATH_MAX + 2];
	const char *link;
	int r = find_link(w, e, &link);

	if (r < 0)
		return r;
	snprintf(name, sizeof(name), "%s%s", *e->path ? e->path : ".",
		S_ISDIR(e->st.st_mode) ? "/" : "");
	archive_entry_clear(w->entry);
	archive_entry_copy_pathname(w->entry, name);
	set_stat(w, e);
	if (link) {
		archive_entry_copy_hardlink(w->entry, link);
		return put_header(w, e->path);
	}
	if (S_ISLNK(e->st.st_mode))
		r = set_link_target(w, e);
	if (r >= 0)
		r = add_xattrs(w, e);
	if (r < 0)
		return r;
	return S_ISREG(e->st.st_mode) ? put_file(w, e) : put_header(w, e->path);
}

/*
 * Writes a whiteout: an empty file whose name says which file or directory of the lower layers the
 * container has removed.
 */
static int put_mark(
	struct writing *w, const char *path, size_t dir_len, const char *prefix, const char *name)
{
	char full[PATH_MAX + sizeof(OPAQUE)];

	snprintf(full, sizeof(full), "%.*s%s%s", (int)dir_len, path, prefix, name);
	archive_entry_clear(w->entry);
	archive_entry_copy_pathname(w->entry, full);
	archive_entry_set_mode(w->entry, S_IFREG | 0600);
	archive_entry_set_mtime(w->entry, 0, 0);
	archive_entry_set_size(w->entry, 0);
	return put_header(w, full);
}

static int on_entry(void *data, const struct upper_entry *e)
{
	struct writing *w = data;
	char text[PATH_MAX + 64], dir[PATH_MAX + 1];

	if (e->kind == UPPER_REMOVED)
		return put_mark(w, e->path, strlen(e->path) - strlen(e->name), WHITEOUT, e->name);
	if (e->kind == UPPER_OPAQUE) {
		int n = snprintf(dir, sizeof(dir), "%s%s", e->path, *e->path ? "/" : "");
		return put_mark(w, dir, (size_t)n, "", OPAQUE);
	}
	if (str_starts(e->name, WHITEOUT))
		return err_set(EINVAL,
			"/%s: a layer cannot have a file whose name begins with " WHITEOUT
			", because that means a removed file",
			e->path);
	if (!S_ISSOCK(e->st.st_mode))
		return put_entry(w, e);
	snprintf(text, sizeof(text), "/%s is a socket, which a layer cannot have", e->path);
	if (w->options->warn)
		w->options->warn(w->options->data, text);
	return 0;
}

static bool skip_mount_point(void *data, const char *path)
{
	const struct writing *w = data;

	return w->options->is_mount_point(w->options->data, path);
}

static int start(struct writing *w, const struct store *s)
{
	int r = blob_begin(s, NULL, UINT64_MAX, &w->blob);

	if (r >= 0)
		r = hasher_init(&w->hasher, DIGEST_SHA256);
	if (r >= 0)
		r = compressor_init(&w->compressor, w->options->compression, &w->blob);
	if (r < 0)
		return r;
	w->buf = malloc(COPY_SIZE);
	w->archive = archive_write_new();
	w->entry = archive_entry_new();
	if (!w->buf || !w->archive || !w->entry)
		return err_set(ENOMEM, "out of memory");
	if (archive_write_set_format_pax(w->archive) != ARCHIVE_OK ||
		archive_write_set_format_option(w->archive, "pax", "xattrheader", "SCHILY") !=
			ARCHIVE_OK ||
		archive_write_set_bytes_per_block(w->archive, COPY_SIZE) != ARCHIVE_OK ||
		archive_write_set_bytes_in_last_block(w->archive, 1) != ARCHIVE_OK ||
		archive_write_open(w->archive, w, NULL, on_bytes, NULL) != ARCHIVE_OK)
		return err_set(EIO, "start a tar: %s", archive_error_string(w->archive));
	return 0;
}

static int finish(struct writing *w, struct descriptor *ret, struct digest *ret_diff_id)
{
	static const char *const types[] = {[LAYER_GZIP] = MEDIA_OCI_LAYER_GZIP,
		[LAYER_ZSTD] = MEDIA_OCI_LAYER_ZSTD,
		[LAYER_PLAIN] = MEDIA_OCI_LAYER};

	if (archive_write_close(w->archive) != ARCHIVE_OK)
		return tar_error(w, "");
	int r = compressor_end(&w->compressor);
	if (r >= 0)
		r = hasher_final(&w->hasher, ret_diff_id);
	*ret = (struct descriptor){.media_type = types[w->options->compression]};
	return r < 0 ? r : blob_finish(&w->blob, &ret->digest, &ret->size);
}

static void release(struct writing *w)
{
	archive_write_free(w->archive);
	archive_entry_free(w->entry);
	tdestroy(w->links, free);
	compressor_release(&w->compressor);
	hasher_release(&w->hasher);
	blob_close(&w->blob);
	free(w->buf);
}

int layer_write(const struct store *s, const struct layer_writing *l, struct descriptor *ret,
	struct digest *ret_diff_id, uint64_t *ret_entries)
{
	__attribute__((cleanup(release))) struct writing w = {
		.options = l, .blob = BLOB_WRITER_INIT};
	const struct upper_options walk = {.upper = l->upper,
		.is_mount_point = l->is_mount_point ? skip_mount_point : NULL,
		.entry = on_entry,
		.data = &w};
	int r = start(&w, s);

	if (r >= 0)
		r = upper_walk(&walk);
	if (r >= 0)
		r = finish(&w, ret, ret_diff_id);
	*ret_entries = w.entries;
	return r;
}
