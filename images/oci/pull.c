/* SPDX-License-Identifier: Apache-2.0 */
/* Pulls an image: first the manifests, then the blobs that the manifests name, then the tag. */
#include <stdio.h>

#include "images/oci/transfer_internal.h"

#define MAX_NESTED_INDEXES 4
/* largest number of entries, and of pages, of a list of referrers */
#define REFERRERS_MAX 100000u
#define REFERRERS_PAGES_MAX 100u

/* The state of one pull of an image. */
struct pull {
	const struct store *s;
	struct registry *g;
	struct http *h;
	const struct transfer_options *o;
	struct work_list blobs;
};

static int add_manifest(
	struct pull *p, const struct manifest *m, int depth, struct descriptor *ret);

/*
 * Puts a manifest that an index names into the store, and adds the blobs that the manifest names to
 * the list of blobs to pull. Reads the manifest from the store if the store has it, else fetches it
 * from the registry.
 */
static int add_child(struct pull *p, const struct descriptor *d, int depth, struct descriptor *ret)
{
	_cleanup_manifest_ struct manifest m = {0};
	int r = store_has_blob(p->s, &d->digest, d->size);

	if (d->size > OCI_DOCUMENT_MAX)
		return err_set(EINVAL, "%s: a manifest of %llu bytes: the limit is %u",
			d->digest.text, (unsigned long long)d->size, OCI_DOCUMENT_MAX);
	if (r > 0) {
		r = store_read_document(p->s, d, &m.text);
		m.digest = d->digest;
		snprintf(m.media_type, sizeof(m.media_type), "%s", d->media_type);
	} else if (r == 0) {
		r = registry_get_manifest(p->g, p->h, d->digest.text, &m);
	}
	if (r >= 0 && m.text.len != d->size)
		r = err_set(EBADMSG, "%s has %zu bytes, the index says %llu", d->digest.text,
			m.text.len, (unsigned long long)d->size);
	return r < 0 ? r : add_manifest(p, &m, depth, ret);
}

static int add_index(struct pull *p, const struct document *doc, int depth, struct descriptor *ret)
{
	const struct platform host = platform_host();
	const struct descriptor *chosen;
	struct descriptor ignored;
	int r = 0;

	if (depth == MAX_NESTED_INDEXES)
		return err_set(EINVAL, "indexes nested deeper than %d", MAX_NESTED_INDEXES);
	if (!p->o->all) {
		r = index_choose(doc, p->o->platform ? p->o->platform : &host, &chosen);
		return r < 0 ? r : add_child(p, chosen, depth + 1, ret);
	}
	for (size_t i = 0; i < doc->nmanifests && r >= 0; i++)
		r = add_child(p, &doc->manifests[i], depth + 1, &ignored);
	return r;
}

static int add_manifest(struct pull *p, const struct manifest *m, int depth, struct descriptor *ret)
{
	_cleanup_arena_ struct arena a = {0};
	struct document doc;
	int r = document_parse(
		&a, &m->text, m->digest.text, *m->media_type ? m->media_type : NULL, &doc);

	if (r < 0)
		return r;
	transfer_descriptor(m, &doc, ret);
	r = store_add_document(p->s, strbuf_str(&m->text), m->text.len, ret);
	if (r < 0)
		return r;
	if (doc.kind == DOCUMENT_INDEX)
		return add_index(p, &doc, depth, ret);
	r = work_add(&p->blobs, &doc.config);
	for (size_t i = 0; i < doc.nlayers && r >= 0; i++)
		r = work_add(&p->blobs, &doc.layers[i]);
	return r;
}

static int get(
	void *data, struct http *h, const struct work *w, const struct transfer_events *events)
{
	const struct pull *p = data;
	_cleanup_blob_ struct blob_writer writer = BLOB_WRITER_INIT;
	int r = blob_begin_patiently(p->s, &w->d, &writer);

	return r != 0 ? r : registry_get_blob(p->g, h, &w->d, &writer, events);
}

static int pull(struct pull *p, const struct manifest *m, struct descriptor *ret)
{
	_cleanup_http_ struct http h = {0};
	int r = registry_handle(p->g, &h);

	p->h = &h;
	if (r >= 0)
		r = add_manifest(p, m, 0, ret);
	if (r >= 0 && p->o->manifest)
		p->o->manifest(p->o->manifest_data, ret);
	return r < 0 ? r : work_run(p->g, &p->blobs, p->o, get, p);
}

int image_pull(const struct store *s, struct arena *a, const char *name,
	const struct transfer_options *o, struct transfer_result *ret)
{
	_cleanup_manifest_ struct manifest m = {0};
	struct registry g;
	struct reference found;
	struct descriptor d;

	*ret = (struct transfer_result){0};
	int r = transfer_find(a, name, o, &g, &found, &m);
	if (r < 0)
		return r;
	struct pull p = {.s = s, .g = &g, .o = o, .blobs = {.a = a}};
	r = pull(&p, &m, &d);
	registry_close(&g);
	if (r < 0)
		return err_ctx(r, "%.300s", name);
	ret->name = reference_text(a, &found);
	ret->digest = d.digest;
	return ret->name ? store_tag(s, ret->name, &d) : -ENOMEM;
}

/* Adds the manifests of one page of a list of referrers to *ret. */
static int add_page(struct arena *a, const struct manifest *list, struct document *ret)
{
	struct document page;

	int r = document_parse(a, &list->text, "the list of referrers", MEDIA_OCI_INDEX, &page);
	if (r < 0)
		return r;
	if (page.nmanifests > REFERRERS_MAX - ret->nmanifests)
		return err_set(
			E2BIG, "the list of referrers has more than %u manifests", REFERRERS_MAX);
	if (page.nmanifests == 0)
		return 0;
	struct descriptor *all = arena_array(a, ret->nmanifests + page.nmanifests, sizeof(*all));
	if (!all)
		return -ENOMEM;
	if (ret->nmanifests)
		memcpy(all, ret->manifests, ret->nmanifests * sizeof(*all));
	memcpy(all + ret->nmanifests, page.manifests, page.nmanifests * sizeof(*all));
	ret->nmanifests += page.nmanifests;
	ret->manifests = all;
	return 0;
}

static int get_pages(
	struct registry *g, struct arena *a, const struct digest *subject, struct document *ret)
{
	_cleanup_referrers_page_ struct referrers_page p = {0};
	_cleanup_http_ struct http h = {0};
	unsigned pages = 0;
	int r = registry_handle(g, &h);

	while (r >= 0) {
		r = registry_get_referrers(g, &h, subject, &p);
		if (r >= 0)
			r = add_page(a, &p.list, ret);
		if (r < 0 || p.next.len == 0)
			break;
		if (++pages == REFERRERS_PAGES_MAX)
			return err_set(E2BIG, "the list of referrers has more than %u pages",
				REFERRERS_PAGES_MAX);
	}
	/*
	 * If the first page fails with ENOENT, no other manifest refers to the image, so the list
	 * of referrers is empty.
	 */
	if (r != -ENOENT || pages > 0)
		return r;
	err_clear();
	return 0;
}

int image_referrers(struct arena *a, const char *name, const struct transfer_options *o,
	struct digest *ret_subject, struct document *ret)
{
	_cleanup_manifest_ struct manifest m = {0};
	struct registry g;
	struct reference found;

	*ret = (struct document){.kind = DOCUMENT_INDEX, .media_type = MEDIA_OCI_INDEX};
	int r = transfer_find(a, name, o, &g, &found, &m);
	if (r < 0)
		return r;
	*ret_subject = m.digest;
	r = get_pages(&g, a, &m.digest, ret);
	registry_close(&g);
	return r;
}
