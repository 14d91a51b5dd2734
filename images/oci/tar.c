/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a tar with libarchive. tar.h lists the checks that are not left to libarchive. */
#include "images/oci/tar.h"

#include <archive.h>
#include <archive_entry.h>

#include "images/oci/tar_internal.h"

void tar_init(struct tar *t, const struct stream *stream)
{
	*t = (struct tar){.stream = stream};
}

void tar_release(struct tar *t)
{
	if (t->reader)
		archive_read_free(t->reader);
	t->reader = NULL;
	strbuf_release(&t->special);
	strbuf_release(&t->records);
}

static la_ssize_t read_callback(struct archive *a, void *data, const void **ret)
{
	struct tar *t = data;
	ssize_t n = t->failure < 0 ? t->failure : guard_next(t, ret);

	if (n < 0) {
		t->failure = (int)n;
		archive_set_error(a, EIO, "the guard refused it");
		return -1;
	}
	t->given += (uint64_t)n;
	return n;
}

/*
 * Returns the error of a failed call of libarchive. If guard_next() has failed, its message is
 * kept, because it is more exact than libarchive's.
 */
static int failed(struct tar *t)
{
	const char *text = archive_error_string(t->reader);
	char line[256];

	if (t->failure < 0)
		return t->failure;
	if (archive_errno(t->reader) == ENOMEM)
		return err_set(ENOMEM, "out of memory");
	str_clean(line, sizeof(line), text ? text : "", text ? strlen(text) : 0);
	if (t->headers.sparse)
		return err_set(
			EBADMSG, "the map of a sparse file is broken%s%s", *line ? ": " : "", line);
	return err_set(EBADMSG, "the tar is broken: %s", *line ? line : "libarchive refuses it");
}

static int open_reader(struct tar *t)
{
	t->reader = archive_read_new();
	if (!t->reader)
		return err_set(ENOMEM, "out of memory");
	/* The format "empty" is enabled too, because it accepts a tar of no bytes. */
	if (archive_read_support_format_tar(t->reader) != ARCHIVE_OK ||
		archive_read_support_format_empty(t->reader) != ARCHIVE_OK ||
		archive_read_open(t->reader, t, NULL, read_callback, NULL) != ARCHIVE_OK)
		return failed(t);
	return 0;
}

/*
 * Skips the rest of the last entry, and checks that guard_next() and libarchive agree on where the
 * entry ends.
 */
static int leave_entry(struct tar *t)
{
	if (!t->libs_entry)
		return 0;
	t->at_headers = false;
	int r = archive_read_data_skip(t->reader);
	if (r != ARCHIVE_OK && r != ARCHIVE_EOF)
		return failed(t);
	t->libs_entry = NULL;
	t->at_headers = true;
	if (t->padded > 0 || (uint64_t)archive_filter_bytes(t->reader, 0) != t->given)
		return err_set(EBADMSG, "the tar is broken: two readings of %s differ in its size",
			t->name);
	guard_expect_entry(t);
	return 0;
}

static int set_name(char dst[TAR_NAME_MAX], const char *src, const char *what)
{
	size_t len = src ? strlen(src) : 0;

	if (len >= TAR_NAME_MAX)
		return err_set(ENAMETOOLONG, "the tar has %s of %zu bytes: the limit is %u", what,
			len, TAR_NAME_MAX - 1);
	memcpy(dst, src ? src : "", len + 1);
	return 0;
}

/*
 * Copies the name of an entry and the target of a link from libarchive. A regular file whose name
 * ends in a slash counts as a directory.
 */
static int take_names(struct tar *t, struct archive_entry *lib, struct tar_entry *e)
{
	const char *link = "";

	if (e->type == TAR_SYMLINK)
		link = archive_entry_symlink(lib);
	else if (e->type == TAR_HARDLINK)
		link = archive_entry_hardlink(lib);
	int r = set_name(t->name, archive_entry_pathname(lib), "a name");
	if (r >= 0)
		r = set_name(t->link, link, "a link's target");
	if (r < 0)
		return r;
	size_t len = strlen(t->name);
	if (e->type == TAR_FILE && len > 0 && t->name[len - 1] == '/') {
		e->type = TAR_DIR;
		if (t->headers.size > 0)
			return err_set(EBADMSG, "%s is a directory and has data", t->name);
	}
	while (len > 1 && t->name[len - 1] == '/')
		t->name[--len] = '\0';
	e->name = t->name;
	e->link = t->link;
	return 0;
}

static void take_numbers(const struct tar *t, struct archive_entry *lib, struct tar_entry *e)
{
	const struct tar_headers *h = &t->headers;

	e->mode = archive_entry_mode(lib) & 07777;
	e->uid = h->pax.no_uid ? h->uid : (uint64_t)archive_entry_uid(lib);
	e->gid = h->pax.no_gid ? h->gid : (uint64_t)archive_entry_gid(lib);
	e->mtime = h->pax.has_mtime ? h->pax.mtime : (struct timespec){.tv_sec = h->mtime};
	e->major = h->major;
	e->minor = h->minor;
	e->xattrs = t->xattrs;
	e->nxattrs = h->pax.nxattrs;
}

/*
 * Checks the pieces of a sparse file. libarchive drops pieces that overlap, are in disorder or lie
 * beyond the end of the file. Such a piece exists if the remaining pieces together have fewer bytes
 * than the tar contains for the file.
 */
static int check_pieces(struct tar *t, struct archive_entry *lib, struct tar_entry *e)
{
	int64_t offset, len;
	uint64_t sum = 0;
	int n = archive_entry_sparse_reset(lib);

	if (n > (int)TAR_SPARSE_MAX)
		return err_set(E2BIG, "a sparse file has more than %u pieces", TAR_SPARSE_MAX);
	/*
	 * archive_entry_sparse_next() is not called with n == 0, because that would read freed
	 * memory in libarchive 3.6.2.
	 */
	while (n > 0 && archive_entry_sparse_next(lib, &offset, &len) == ARCHIVE_OK)
		sum += (uint64_t)len;
	/*
	 * For a sparse file that is one piece without holes, libarchive gives no list of pieces, so
	 * the length of that piece is taken from the header.
	 */
	if (n == 0 && e->stored == e->size)
		sum = e->stored;
	return sum == e->stored ? 0 : err_set(EBADMSG, "the map of a sparse file is broken");
}

static int take_size(struct tar *t, struct archive_entry *lib, struct tar_entry *e)
{
	if (e->type != TAR_FILE)
		return 0;
	e->size = e->stored = t->headers.size;
	if (!t->headers.sparse)
		return 0;
	/*
	 * The map of a sparse file in GNU's form 1.0 stands in front of the data. Its size is
	 * subtracted, because the size in the header includes the map, which libarchive has read
	 * already.
	 */
	uint64_t map = (uint64_t)archive_filter_bytes(t->reader, 0) - t->data_start;
	if (map > e->stored || archive_entry_size(lib) < 0)
		return err_set(EBADMSG, "the map of a sparse file is broken");
	e->stored -= map;
	e->size = (uint64_t)archive_entry_size(lib);
	return check_pieces(t, lib, e);
}

/*
 * Returns whether the result means success. EILSEQ means success too: libarchive could not convert
 * a name, and kept the name's bytes.
 */
static bool is_fine(struct archive *a, int r)
{
	return r == ARCHIVE_OK || (r == ARCHIVE_WARN && archive_errno(a) == EILSEQ);
}

int tar_next(struct tar *t, struct tar_entry *e)
{
	struct archive_entry *lib;

	t->entry = NULL;
	t->at_headers = true;
	/*
	 * libarchive is opened with the first call of tar_next() and not before, because it reads
	 * the first bytes of the tar when it is opened.
	 */
	int r = t->reader ? leave_entry(t) : open_reader(t);
	if (r < 0)
		return r;
	r = archive_read_next_header(t->reader, &lib);
	t->at_headers = false;
	if (t->failure < 0)
		return t->failure;
	if (r == ARCHIVE_EOF && t->state == TAR_ENDED)
		return 0;
	if (!is_fine(t->reader, r))
		return failed(t);
	t->libs_entry = lib;
	*e = (struct tar_entry){.type = t->headers.type};
	take_numbers(t, lib, e);
	r = take_names(t, lib, e);
	if (r >= 0)
		r = take_size(t, lib, e);
	if (r < 0)
		return r;
	t->position = 0;
	t->entry = e;
	return 1;
}

ssize_t tar_data(struct tar *t, const unsigned char **ret, uint64_t *ret_offset)
{
	const void *bytes;
	size_t n = 0;
	int64_t offset;

	if (!t->entry || t->entry->type != TAR_FILE)
		return 0;
	while (n == 0) {
		int r = archive_read_data_block(t->reader, &bytes, &n, &offset);
		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK)
			return failed(t);
	}
	if (offset < 0 || (uint64_t)offset < t->position || n > t->entry->size ||
		(uint64_t)offset > t->entry->size - n)
		return err_set(EBADMSG, "the map of a sparse file is broken");
	t->position = (uint64_t)offset + n;
	*ret = bytes;
	*ret_offset = (uint64_t)offset;
	return (ssize_t)n;
}
