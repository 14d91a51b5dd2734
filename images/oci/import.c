/* SPDX-License-Identifier: Apache-2.0 */
/* Copies images from an OCI layout or a directory into the store. */
#include "images/oci/import_internal.h"

#include <stdio.h>
#include <stdlib.h>

#include "images/oci/policy.h"

#define COPY_SIZE (256u << 10)
#define MAX_NESTED_INDEXES 4

int split_path(struct arena *a, const char *text, const char **ret_path, const char **ret_reference)
{
	size_t len = strcspn(text, ":");

	*ret_reference = NULL;
	if (len == 0)
		return err_set(EINVAL, "no path is given before the colon");
	*ret_path = arena_strndup(a, text, len);
	if (!*ret_path)
		return -ENOMEM;
	if (text[len] && text[len + 1])
		*ret_reference = arena_strdup(a, text + len + 1);
	return text[len] && text[len + 1] && !*ret_reference ? -ENOMEM : 0;
}

int import_tag(const struct store *s, struct arena *a, const char *name, const struct descriptor *d,
	struct import_result *ret)
{
	if (ret->n == ret->cap) {
		size_t cap = ret->cap ? ret->cap * 2 : 8;
		struct imported *v = arena_array(a, cap, sizeof(*v));
		if (!v)
			return -ENOMEM;
		if (ret->n)
			memcpy(v, ret->v, ret->n * sizeof(*v));
		ret->v = v;
		ret->cap = cap;
	}
	int r = store_tag(s, name, d);
	if (r < 0)
		return r;
	ret->v[ret->n] = (struct imported){arena_strdup(a, name), d->digest};
	return ret->v[ret->n].name ? (ret->n++, 0) : -ENOMEM;
}

static int copy_bytes(struct blob_writer *w, int fd, const char *what)
{
	_cleanup_free_ char *buf = malloc(COPY_SIZE);

	if (!buf)
		return err_set(ENOMEM, "out of memory");
	if (w->written && lseek(fd, (off_t)w->written, SEEK_SET) < 0) {
		int r = blob_restart(w);
		if (r < 0)
			return r;
	}
	for (;;) {
		ssize_t n = read(fd, buf, COPY_SIZE);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys("read %s", what);
		if (n == 0)
			return 0;
		int r = blob_write(w, buf, (size_t)n);
		if (r < 0)
			return r;
	}
}

static int copy_blob(const struct store *s, const struct blob_source *from,
	const struct descriptor *d, const struct copy_events *events)
{
	_cleanup_blob_ struct blob_writer w = BLOB_WRITER_INIT;
	int r = store_has_blob(s, &d->digest, d->size);

	if (r < 0)
		return r;
	if (events->blob)
		events->blob(events->data, d, r > 0);
	if (r > 0)
		return 0;
	_cleanup_fd_ int fd = from->open(from->data, &d->digest);
	if (fd == -ENOENT)
		return err_set(ENOENT, "%s has no blob %s", from->what, d->digest.text);
	if (fd < 0)
		return fd;
	r = blob_begin_patiently(s, d, &w);
	if (r != 0)
		return r < 0 ? r : 0;
	r = copy_bytes(&w, fd, d->digest.text);
	return r < 0 ? r : blob_finish(&w, NULL, NULL);
}

static int copy(const struct store *s, const struct blob_source *from, const struct descriptor *d,
	const struct import_options *o, struct descriptor *ret, int depth);

static int copy_manifest(const struct store *s, const struct blob_source *from,
	const struct document *doc, const struct import_options *o)
{
	int r = copy_blob(s, from, &doc->config, &o->events);

	for (size_t i = 0; i < doc->nlayers && r >= 0; i++)
		r = copy_blob(s, from, &doc->layers[i], &o->events);
	return r;
}

static int copy_index(const struct store *s, const struct blob_source *from,
	const struct document *doc, const struct import_options *o, struct descriptor *ret,
	int depth)
{
	const struct platform host = platform_host();
	const struct descriptor *chosen;
	struct descriptor ignored;
	int r = 0;

	if (!o->all) {
		r = index_choose(doc, o->platform ? o->platform : &host, &chosen);
		return r < 0 ? r : copy(s, from, chosen, o, ret, depth + 1);
	}
	for (size_t i = 0; i < doc->nmanifests && r >= 0; i++) {
		_cleanup_fd_ int fd = from->open(from->data, &doc->manifests[i].digest);
		if (fd == -ENOENT)
			continue;
		r = fd < 0 ? fd : copy(s, from, &doc->manifests[i], o, &ignored, depth + 1);
	}
	return r;
}

static int copy(const struct store *s, const struct blob_source *from, const struct descriptor *d,
	const struct import_options *o, struct descriptor *ret, int depth)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	struct document doc;

	if (depth > MAX_NESTED_INDEXES)
		return err_set(EINVAL, "%s: indexes nested deeper than %d", d->digest.text,
			MAX_NESTED_INDEXES);
	if (d->size > OCI_DOCUMENT_MAX)
		return err_set(EINVAL, "%s: a manifest of %llu bytes: the limit is %u",
			d->digest.text, (unsigned long long)d->size, OCI_DOCUMENT_MAX);
	int r = copy_blob(s, from, d, &o->events);
	if (r >= 0)
		r = store_read_document(s, d, &text);
	if (r >= 0)
		r = document_parse(
			&a, &text, d->digest.text, *d->media_type ? d->media_type : NULL, &doc);
	if (r < 0)
		return r;
	/*
	 * Only the digest and the size of *d are kept, because its other members point into the
	 * arena of another document.
	 */
	*ret = (struct descriptor){.digest = d->digest, .size = d->size};
	const bool index = doc.kind == DOCUMENT_INDEX;
	ret->media_type = streq(doc.media_type, MEDIA_DOCKER_LIST)       ? MEDIA_DOCKER_LIST
			  : streq(doc.media_type, MEDIA_DOCKER_MANIFEST) ? MEDIA_DOCKER_MANIFEST
			  : index                                        ? MEDIA_OCI_INDEX
									 : MEDIA_OCI_MANIFEST;
	return index ? copy_index(s, from, &doc, o, ret, depth) : copy_manifest(s, from, &doc, o);
}

/*
 * Copies into the store what d describes. A manifest is copied with its configuration and layers,
 * and *ret describes the manifest. If d describes an index, one of two things is copied: the
 * manifest for one platform, which *ret then describes, or all manifests that the source has, and
 * then *ret describes the index.
 */
static int copy_image(const struct store *s, const struct blob_source *from,
	const struct descriptor *d, const struct import_options *options, struct descriptor *ret)
{
	return copy(s, from, d, options, ret, 0);
}

static int open_layout_blob(void *data, const struct digest *d)
{
	char name[DIGEST_TEXT_SIZE + 16];
	const int *dir = data;

	snprintf(name, sizeof(name), "blobs/%s/%s", digest_algorithm_name(d->algorithm),
		digest_hex(d));
	int fd = openat(*dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 && errno != ENOENT ? err_sys("open %s", name) : fd < 0 ? -ENOENT : fd;
}

static int open_dir_blob(void *data, const struct digest *d)
{
	const int *dir = data;
	int fd = openat(*dir, digest_hex(d), O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 && errno != ENOENT ? err_sys("open %s", digest_hex(d))
	       : fd < 0                  ? -ENOENT
					 : fd;
}

static int no_such_tag(const struct document *index, const char *what, const char *tag)
{
	_cleanup_strbuf_ struct strbuf names = {0};
	int r = 0;

	for (size_t i = 0; i < index->nmanifests && r >= 0 && names.len < 400; i++)
		if (index->manifests[i].ref_name)
			r = strbuf_addf(&names, "%s%.100s", names.len ? ", " : "",
				index->manifests[i].ref_name);
	if (r < 0)
		return r;
	if (!tag)
		return err_set(EINVAL, "%s has %zu images: name one of them: %s", what,
			index->nmanifests, names.len ? strbuf_str(&names) : "(none has a name)");
	return err_set(ENOENT, "%s has no image \"%.100s\"; it has: %s", what, tag,
		names.len ? strbuf_str(&names) : "(none with a name)");
}

static int choose_tag(const struct document *index, const char *what, const char *tag,
	const struct descriptor **ret)
{
	*ret = NULL;
	if (!tag && index->nmanifests == 1) {
		*ret = &index->manifests[0];
		return 0;
	}
	for (size_t i = 0; tag && i < index->nmanifests; i++)
		if (index->manifests[i].ref_name && streq(index->manifests[i].ref_name, tag)) {
			*ret = &index->manifests[i];
			return 0;
		}
	return no_such_tag(index, what, tag);
}

static int open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? err_sys("open %s", path) : fd;
}

int need_name(const struct import_options *o, const char *found, const char **ret)
{
	*ret = o->name ? o->name : found;
	return *ret ? 0
		    : err_set(EINVAL, "the source has no name for the image: give one behind it");
}

static int parse_index(const struct index_source *src, struct document *ret)
{
	return document_parse(src->arena, src->index, "index.json", MEDIA_OCI_INDEX, ret);
}

int import_from_index(
	const struct index_source *src, const struct import_options *o, struct import_result *ret)
{
	const struct descriptor *d = NULL;
	struct descriptor copied;
	struct document index;
	const char *name = NULL;

	int r = parse_index(src, &index);
	if (r >= 0)
		r = choose_tag(&index, "its index.json", src->tag, &d);
	if (r >= 0)
		r = need_name(o, d->ref_name, &name);
	if (r >= 0)
		r = copy_image(src->store, src->blobs, d, o, &copied);
	return r < 0 ? r : import_tag(src->store, src->arena, name, &copied, ret);
}

/*
 * Returns the full name of an image in an index. docker writes only the tag as ref_name, and the
 * full name as the annotation of containerd.
 */
static const char *full_name(const struct descriptor *d)
{
	const struct json *full =
		d->annotations ? json_get(d->annotations, "io.containerd.image.name") : NULL;

	return full ? full->text : d->ref_name;
}

int import_index_has_names(const struct index_source *src, bool *ret)
{
	struct document index;
	int r = parse_index(src, &index);

	*ret = r >= 0 && index.nmanifests > 0;
	for (size_t i = 0; r >= 0 && i < index.nmanifests; i++)
		*ret &= full_name(&index.manifests[i]) != NULL;
	return r;
}

int import_whole_index(
	const struct index_source *src, const struct import_options *o, struct import_result *ret)
{
	struct descriptor copied;
	struct document index;
	int r = parse_index(src, &index);

	for (size_t i = 0; r >= 0 && i < index.nmanifests; i++) {
		const char *name = full_name(&index.manifests[i]);
		if (!name)
			return err_set(EINVAL,
				"image %zu of index.json has no name: use `caisson image import "
				"oci-archive:FILE NAME`",
				i + 1);
		r = copy_image(src->store, src->blobs, &index.manifests[i], o, &copied);
		if (r >= 0)
			r = import_tag(src->store, src->arena, name, &copied, ret);
	}
	return r;
}

static int import_oci(const struct store *s, struct arena *a, const char *text,
	const struct import_options *o, struct import_result *ret)
{
	_cleanup_strbuf_ struct strbuf index = {0};
	const char *path, *tag;

	int r = split_path(a, text, &path, &tag);
	if (r < 0)
		return r;
	_cleanup_fd_ int dir = open_dir(path);
	if (dir < 0)
		return dir;
	const struct blob_source from = {open_layout_blob, &dir, path};
	r = fd_read_regular(dir, "index.json", &index, OCI_DOCUMENT_MAX);
	return r < 0 ? r
		     : import_from_index(&(struct index_source){s, a, &from, &index, tag}, o, ret);
}

static int import_dir(const struct store *s, struct arena *a, const char *path,
	const struct import_options *o, struct import_result *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct descriptor d = {.media_type = ""}, copied;
	const char *name = NULL;

	_cleanup_fd_ int dir = open_dir(path);
	if (dir < 0)
		return dir;
	const struct blob_source from = {open_dir_blob, &dir, path};
	int r = fd_read_regular(dir, "manifest.json", &text, OCI_DOCUMENT_MAX);
	if (r >= 0)
		r = need_name(o, NULL, &name);
	/*
	 * The manifest is stored first, because copy_image() looks for it by its digest, and in
	 * skopeo's format "dir" the manifest is not in a file that is named by its digest.
	 */
	if (r >= 0)
		r = store_add_blob(s, strbuf_str(&text), text.len, &d);
	if (r >= 0)
		r = copy_image(s, &from, &d, o, &copied);
	return r < 0 ? r : import_tag(s, a, name, &copied, ret);
}

/*
 * Checks whether policy.json allows the source. A source "oci:", "oci-archive:" or "dir:" is looked
 * up by its path, and by its tag if it has one. policy.json knows archives of docker only as a
 * whole, without a path.
 */
static int check_policy(struct arena *a, const char *transport, const char *text)
{
	const char *path = text, *tag = NULL;
	char name[32];

	snprintf(name, sizeof(name), "%.*s", (int)strcspn(transport, ":"), transport);
	if (streq(name, "docker-archive"))
		return policy_check_path(name, "-", NULL);
	int r = streq(name, "dir") ? 0 : split_path(a, text, &path, &tag);
	return r < 0 ? r : policy_check_path(name, path, tag);
}

int image_import(const struct store *s, struct arena *a, const char *source,
	const struct import_options *options, struct import_result *ret)
{
	static const struct {
		const char *transport;
		int (*import)(const struct store *s, struct arena *a, const char *text,
			const struct import_options *o, struct import_result *ret);
	} transports[] = {
		{"oci:", import_oci},
		{"dir:", import_dir},
		{"oci-archive:", import_oci_archive},
		{"docker-archive:", import_docker_archive},
	};

	*ret = (struct import_result){0};
	for (size_t i = 0; i < ARRAY_SIZE(transports); i++) {
		const char *transport = transports[i].transport;
		if (!str_starts(source, transport))
			continue;
		const char *text = source + strlen(transport);
		int r = check_policy(a, transport, text);
		if (r >= 0)
			r = transports[i].import(s, a, text, options, ret);
		return r < 0 ? err_ctx(r, "%.200s", source) : 0;
	}
	return err_set(EINVAL,
		"\"%.100s\": expected oci:DIR[:TAG], oci-archive:FILE[:TAG], "
		"docker-archive:FILE[:REF] "
		"or dir:DIR",
		source);
}
