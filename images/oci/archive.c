/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Imports images from a tar archive. The archive is read once, from beginning to end, so that it
 * may come from a pipe. Every file of the archive becomes a blob of the store, except the few
 * documents that say which blobs belong to an image. The next garbage collection removes the blobs
 * that belong to no image.
 */
#include <stdio.h>
#include <stdlib.h>

#include "images/oci/archive_internal.h"
#include "images/oci/policy.h"
#include "images/oci/tar.h"

#define MEMBERS_MAX 20000u
#define LINKS_MAX 16

static void release_archive(struct archive *ar)
{
	free(ar->v);
	strbuf_release(&ar->index);
	strbuf_release(&ar->manifest);
}

static const char *clean(const char *path)
{
	while (str_starts(path, "./") || *path == '/')
		path += *path == '/' ? 1 : 2;
	return path;
}

static struct member *add_member(struct archive *ar, const char *path)
{
	if (ar->n == MEMBERS_MAX) {
		(void)err_set(E2BIG, "the archive has more than %u files", MEMBERS_MAX);
		return NULL;
	}
	if (ar->n == ar->cap) {
		size_t cap = ar->cap ? ar->cap * 2 : 64;
		struct member *v = reallocarray(ar->v, cap, sizeof(*v));
		if (!v) {
			(void)err_set(ENOMEM, "out of memory");
			return NULL;
		}
		ar->v = v;
		ar->cap = cap;
	}
	struct member *m = &ar->v[ar->n];
	*m = (struct member){.path = arena_strdup(ar->a, path)};
	if (!m->path)
		return NULL;
	ar->n++;
	return m;
}

static int read_document(struct tar *t, const struct tar_entry *e, struct strbuf *ret)
{
	const unsigned char *p;
	uint64_t offset;
	ssize_t n;
	int r = 0;

	if (e->size > OCI_DOCUMENT_MAX || e->size != e->stored)
		return err_set(EINVAL, "%.100s has %llu bytes: the limit is %u", e->name,
			(unsigned long long)e->size, OCI_DOCUMENT_MAX);
	strbuf_reset(ret);
	while (r >= 0 && (n = tar_data(t, &p, &offset)) != 0)
		r = n < 0 ? (int)n : strbuf_add(ret, p, (size_t)n);
	return r;
}

/* Sets *ret to the digest that a path "blobs/sha256/HEX" contains. */
static int digest_of_path(const char *path, struct digest *ret)
{
	char text[DIGEST_TEXT_SIZE + 8];
	const char *rest = path + sizeof("blobs/") - 1;

	if (!str_starts(path, "blobs/") || strlen(rest) >= sizeof(text) || !strchr(rest, '/'))
		return 0;
	strcpy(text, rest);
	*strchr(text, '/') = ':';
	int r = digest_parse(text, path, ret);
	return r < 0 ? r : 1;
}

static int write_blob(struct tar *t, struct blob_writer *w, struct member *m)
{
	const unsigned char *p;
	uint64_t offset, done = 0;
	ssize_t n;
	int r = 0;

	while (r >= 0 && (n = tar_data(t, &p, &offset)) != 0) {
		if (n < 0)
			return (int)n;
		/*
		 * A part of the blob may already be stored, because an earlier process was
		 * interrupted while it wrote the blob. These bytes are skipped here, because the
		 * archive always delivers the whole file.
		 */
		uint64_t skip = w->written > done ? w->written - done : 0;
		if (skip < (uint64_t)n)
			r = blob_write(w, p + skip, (size_t)n - (size_t)skip);
		done += (uint64_t)n;
	}
	return r < 0 ? r : blob_finish(w, &m->digest, &m->size);
}

static int take_blob(struct archive *ar, struct tar *t, const struct tar_entry *e, const char *path)
{
	_cleanup_blob_ struct blob_writer w = BLOB_WRITER_INIT;
	struct digest expected;
	struct member *m = add_member(ar, path);

	if (!m)
		return -ENOMEM;
	if (e->size != e->stored)
		return err_set(EINVAL, "%.100s is a sparse file", path);
	int known = digest_of_path(path, &expected);
	if (known < 0)
		return known;
	m->size = e->size;
	if (known)
		m->digest = expected;
	int r = blob_begin(ar->s, known ? &expected : NULL, e->size, &w);
	/*
	 * If another process is writing the same blob, this process writes the file under a
	 * temporary name. In the end both processes give the blob the same name and content.
	 */
	if (r == -EBUSY)
		r = blob_begin(ar->s, NULL, e->size, &w);
	if (r < 0)
		return r;
	if (r == 0)
		r = write_blob(t, &w, m);
	if (r >= 0 && known && !digest_equal(&m->digest, &expected))
		r = err_set(EBADMSG, "%s: its bytes have the digest %s", path, m->digest.text);
	return r < 0 ? r : 0;
}

/*
 * Adds a link to the list of members. The target of a hard link is a path of the archive; the
 * target of a symbolic link is relative to the link's directory.
 */
static int take_link(struct archive *ar, const struct tar_entry *e, const char *path)
{
	struct member *m = add_member(ar, path);
	const char *slash = strrchr(path, '/'), *target = e->link;
	size_t base = slash && e->type == TAR_SYMLINK ? (size_t)(slash - path) : 0;

	if (!m)
		return -ENOMEM;
	while (e->type == TAR_SYMLINK && str_starts(target, "../")) {
		target += 3;
		while (base > 0 && path[--base] != '/')
			;
	}
	m->link = base ? arena_printf(ar->a, "%.*s/%s", (int)base, path, clean(target))
		       : arena_strdup(ar->a, clean(target));
	return m->link ? 0 : -ENOMEM;
}

static int take_member(struct archive *ar, struct tar *t, const struct tar_entry *e)
{
	static const char *const ignored[] = {
		"VERSION", "json", "repositories", "oci-layout", "version"};
	const char *path = clean(e->name);
	const char *slash = strrchr(path, '/');

	if (e->type == TAR_DIR)
		return 0;
	if (e->type == TAR_SYMLINK || e->type == TAR_HARDLINK)
		return take_link(ar, e, path);
	if (e->type != TAR_FILE)
		return err_set(EINVAL, "%.100s is neither a file nor a link", path);
	if (streq(path, "index.json"))
		return read_document(t, e, &ar->index);
	if (streq(path, "manifest.json"))
		return read_document(t, e, &ar->manifest);
	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		if (streq(slash ? slash + 1 : path, ignored[i]))
			return 0;
	return take_blob(ar, t, e, path);
}

static int read_members(struct archive *ar, int fd, const char *path)
{
	struct file_stream file = {0};
	struct decompressor plain = {0};
	_cleanup_tar_ struct tar t = {0};
	struct tar_entry e;

	int r = file_stream_init(
		&file, &(struct file_source){.fd = fd, .what = path, .max = UINT64_MAX});
	if (r >= 0)
		r = decompressor_init(&plain, &file.stream, DIGEST_SHA256);
	if (r >= 0)
		tar_init(&t, &plain.stream);
	while (r >= 0 && (r = tar_next(&t, &e)) > 0)
		r = take_member(ar, &t, &e);
	decompressor_release(&plain);
	file_stream_release(&file);
	return r;
}

static int read_archive(struct archive *ar, const char *path)
{
	if (streq(path, "-"))
		return read_members(ar, STDIN_FILENO, "standard input");
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_sys("open %s", path) : read_members(ar, fd, path);
}

int archive_find(const struct archive *ar, const char *path, const struct member **ret)
{
	const char *wanted = clean(path);

	for (int links = 0; links < LINKS_MAX; links++) {
		const struct member *m = NULL;
		/*
		 * The search begins at the end, because the last of several members with the same
		 * name is the valid one, as in any tar.
		 */
		for (size_t i = ar->n; i > 0 && !m; i--)
			if (streq(ar->v[i - 1].path, wanted))
				m = &ar->v[i - 1];
		if (!m)
			return err_set(
				ENOENT, "manifest.json names %.200s, which is not there", wanted);
		if (!m->link) {
			*ret = m;
			return 0;
		}
		wanted = m->link;
	}
	return err_set(ELOOP, "%.200s: too many links", path);
}

/*
 * Serves as the open() of a struct blob_source, and says of every blob that the archive does not
 * have it. That is right, because all files of the archive are already blobs of the store when the
 * images are imported, so no blob has to be copied.
 */
static int open_nothing(void *data, const struct digest *d)
{
	return -ENOENT;
}

int import_oci_archive(const struct store *s, struct arena *a, const char *text,
	const struct import_options *o, struct import_result *ret)
{
	__attribute__((cleanup(release_archive))) struct archive ar = {.s = s, .a = a};
	const struct blob_source from = {open_nothing, NULL, "the archive"};
	const char *path, *tag;

	int r = split_path(a, text, &path, &tag);
	if (r >= 0)
		r = read_archive(&ar, path);
	if (r < 0)
		return r;
	if (!ar.index.len)
		return err_set(ENOENT, "the archive has no index.json: it is no OCI image layout");
	return import_from_index(&(struct index_source){s, a, &from, &ar.index, tag}, o, ret);
}

int import_docker_archive(const struct store *s, struct arena *a, const char *text,
	const struct import_options *o, struct import_result *ret)
{
	__attribute__((cleanup(release_archive))) struct archive ar = {.s = s, .a = a};
	const char *path, *ref;

	int r = split_path(a, text, &path, &ref);
	if (r >= 0)
		r = read_archive(&ar, path);
	return r < 0 ? r : archive_import_docker(&ar, ref, o, ret);
}

/*
 * Imports all images of an archive. docker and podman save images with their names in index.json,
 * in manifest.json or in both. index.json is preferred if it has a name for every image, because it
 * keeps the manifests and their digests.
 */
int image_load(const struct store *s, struct arena *a, const char *path,
	const struct import_options *o, struct import_result *ret)
{
	__attribute__((cleanup(release_archive))) struct archive ar = {.s = s, .a = a};
	const struct blob_source from = {open_nothing, NULL, "the archive"};
	const struct index_source src = {s, a, &from, &ar.index, NULL};
	bool named = false;

	*ret = (struct import_result){0};
	int r = read_archive(&ar, path);
	if (r >= 0 && !ar.index.len && !ar.manifest.len)
		r = err_set(EINVAL,
			"the archive has neither manifest.json nor index.json: expected what "
			"`docker save` or `caisson image save` writes");
	if (r >= 0 && ar.index.len)
		r = import_index_has_names(&src, &named);
	named |= !ar.manifest.len;
	if (r >= 0)
		r = named ? policy_check_path("oci-archive", path, NULL)
			  : policy_check_path("docker-archive", "-", NULL);
	if (r >= 0)
		r = named ? import_whole_index(&src, o, ret)
			  : archive_import_docker(&ar, NULL, o, ret);
	return r < 0 ? err_ctx(r, "%.200s", streq(path, "-") ? "standard input" : path) : 0;
}
