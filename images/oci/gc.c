/* SPDX-License-Identifier: Apache-2.0 */
/* Collects garbage: marks all blobs that can be reached from the tags, then removes the others. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "images/oci/store_internal.h"

#define MAX_NESTED_INDEXES 4

struct marks {
	const struct store *store;
	struct digest *v;
	size_t n, cap;
};

static void release_marks(struct marks *m)
{
	free(m->v);
}

static int add_mark(struct marks *m, const struct digest *d)
{
	if (m->n == m->cap) {
		size_t cap = m->cap ? m->cap * 2 : 64;
		struct digest *v = reallocarray(m->v, cap, sizeof(*v));
		if (!v)
			return err_set(ENOMEM, "out of memory");
		m->v = v;
		m->cap = cap;
	}
	m->v[m->n++] = *d;
	return 0;
}

static int compare_digests(const void *a, const void *b)
{
	return strcmp(((const struct digest *)a)->text, ((const struct digest *)b)->text);
}

static int mark(struct marks *m, const struct descriptor *d, int depth);

static int mark_document(struct marks *m, const struct document *doc, int depth)
{
	int r = 0;

	if (doc->kind == DOCUMENT_MANIFEST) {
		r = add_mark(m, &doc->config.digest);
		for (size_t i = 0; i < doc->nlayers && r >= 0; i++)
			r = add_mark(m, &doc->layers[i].digest);
		return r;
	}
	for (size_t i = 0; i < doc->nmanifests && r >= 0; i++) {
		/*
		 * Manifests that are not in the store are skipped, because often only one
		 * platform's image of an index was pulled.
		 */
		r = store_has_blob(m->store, &doc->manifests[i].digest, doc->manifests[i].size);
		if (r > 0)
			r = mark(m, &doc->manifests[i], depth + 1);
	}
	return r;
}

static int mark(struct marks *m, const struct descriptor *d, int depth)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	struct document doc;
	int r = add_mark(m, &d->digest);

	if (r < 0 ||
		(!media_type_is_index(d->media_type) && !media_type_is_manifest(d->media_type)))
		return r;
	if (depth > MAX_NESTED_INDEXES)
		return err_set(EINVAL, "%s: indexes nested deeper than %d", d->digest.text,
			MAX_NESTED_INDEXES);
	r = store_read_document(m->store, d, &text);
	if (r >= 0)
		r = document_parse(&a, &text, d->digest.text, d->media_type, &doc);
	return r < 0 ? r : mark_document(m, &doc, depth);
}

static int mark_tags(struct marks *m)
{
	_cleanup_arena_ struct arena a = {0};
	struct document tags;
	int r = store_tags(m->store, &a, &tags);

	for (size_t i = 0; r >= 0 && i < tags.nmanifests; i++) {
		r = mark(m, &tags.manifests[i], 0);
		if (r < 0)
			return err_ctx(r,
				"nothing was removed, because what the tag \"%s\" uses is unknown",
				tags.manifests[i].ref_name ? tags.manifests[i].ref_name : "");
	}
	if (r >= 0 && m->n)
		qsort(m->v, m->n, sizeof(*m->v), compare_digests);
	return r;
}

/*
 * Removes the files that are not marked from a directory of blobs. If algorithm is NULL, removes
 * all files.
 */
static int sweep(int dir, const char *algorithm, const struct marks *m, struct store_freed *freed)
{
	_cleanup_fd_ int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;
	struct stat st;

	if (!d)
		return err_sys("read the store's blobs");
	(void)take_fd(&copy);
	while ((e = readdir(d))) {
		struct digest key;
		if (e->d_name[0] == '.')
			continue;
		if (algorithm) {
			int n = snprintf(key.text, sizeof(key.text), "%s:%s", algorithm, e->d_name);
			if (n < (int)sizeof(key.text) && m->n &&
				bsearch(&key, m->v, m->n, sizeof(*m->v), compare_digests))
				continue;
		}
		if (fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			unlinkat(dir, e->d_name, 0) < 0)
			continue;
		freed->blobs += algorithm != NULL;
		freed->bytes += (uint64_t)st.st_blocks * 512;
	}
	closedir(d);
	return 0;
}

static int collect(struct store *s, struct store_freed *ret)
{
	__attribute__((cleanup(release_marks))) struct marks m = {.store = s};
	int r = mark_tags(&m);

	for (size_t i = 0; i < ARRAY_SIZE(s->blobs) && r >= 0; i++)
		r = sweep(s->blobs[i], digest_algorithm_name((enum digest_algorithm)i), &m, ret);
	return r < 0 ? r : sweep(s->partial, NULL, &m, ret);
}

int store_gc(struct store *s, struct store_freed *ret)
{
	*ret = (struct store_freed){0};
	int r = store_lock_alone(s);
	if (r < 0)
		return r;
	r = collect(s, ret);
	int unlocked = store_lock_shared(s);
	return r < 0 ? r : unlocked;
}
