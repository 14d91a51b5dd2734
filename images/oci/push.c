/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pushes an image: first the blobs, then the manifests that name the blobs. The manifest to which
 * the tag leads is the last.
 */
#include <stdio.h>

#include "images/oci/image.h"
#include "images/oci/transfer_internal.h"

#define MAX_NESTED_INDEXES 4
#define MANIFESTS_MAX 1000u

struct push {
	const struct store *s;
	struct arena *a;
	struct registry *g;
	const struct transfer_options *o;
	struct work_list blobs;
	/* the manifests to upload; the manifests of an index come before that index */
	struct descriptor *manifests;
	size_t nmanifests;
};

static int read_document(const struct push *p, struct arena *a, const struct descriptor *d,
	struct strbuf *text, struct document *ret)
{
	int r = store_has_blob(p->s, &d->digest, d->size);

	if (r == 0)
		return err_set(ENOENT,
			"%s is not in the store: pull the image by --all-platforms, or push one "
			"platform",
			d->digest.text);
	if (r > 0)
		r = store_read_document(p->s, d, text);
	return r < 0 ? r : document_parse(a, text, d->digest.text, d->media_type, ret);
}

static int collect(struct push *p, const struct descriptor *d, int depth)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	struct document doc;
	int r = read_document(p, p->a, d, &text, &doc);

	if (r < 0)
		return r;
	if (depth > MAX_NESTED_INDEXES)
		return err_set(EINVAL, "indexes nested deeper than %d", MAX_NESTED_INDEXES);
	for (size_t i = 0; i < doc.nmanifests && r >= 0; i++)
		r = collect(p, &doc.manifests[i], depth + 1);
	if (doc.kind == DOCUMENT_MANIFEST)
		r = work_add(&p->blobs, &doc.config);
	for (size_t i = 0; i < doc.nlayers && r >= 0; i++)
		r = work_add(&p->blobs, &doc.layers[i]);
	if (r >= 0 && p->nmanifests == MANIFESTS_MAX)
		return err_set(E2BIG, "the image has more than %u manifests", MANIFESTS_MAX);
	if (r >= 0)
		p->manifests[p->nmanifests++] = *d;
	return r;
}

static void note_mounts(struct push *p, const struct document *doc, const char *repository)
{
	for (size_t w = 0; w < p->blobs.n; w++)
		for (size_t i = 0; i <= doc->nlayers; i++) {
			const struct digest *d =
				i ? &doc->layers[i - 1].digest : &doc->config.digest;
			if (!p->blobs.v[w].from && digest_equal(&p->blobs.v[w].d.digest, d))
				p->blobs.v[w].from = repository;
		}
}

/*
 * Finds, for each blob, another tag of the store that was pulled from or pushed to the same
 * registry, because the registry can copy the blob from the repository of that tag. A tag whose
 * image cannot be read is skipped.
 */
static int find_mounts(struct push *p)
{
	struct document tags;
	int r = store_tags(p->s, p->a, &tags);

	for (size_t i = 0; r >= 0 && i < tags.nmanifests; i++) {
		_cleanup_strbuf_ struct strbuf text = {0};
		const struct descriptor *d = &tags.manifests[i];
		struct reference other;
		struct document doc;
		if (!d->ref_name || reference_parse(p->a, d->ref_name, &other) < 0 || !other.host ||
			!streq(other.host, p->g->host) || streq(other.repository, p->g->repository))
			continue;
		if (read_document(p, p->a, d, &text, &doc) >= 0 && doc.kind == DOCUMENT_MANIFEST)
			note_mounts(p, &doc, other.repository);
	}
	err_clear();
	return r;
}

static int put(
	void *data, struct http *h, const struct work *w, const struct transfer_events *events)
{
	const struct push *p = data;
	uint64_t size;
	_cleanup_fd_ int fd = store_open_blob(p->s, &w->d.digest, &size);

	if (fd < 0)
		return fd;
	if (size != w->d.size)
		return err_set(EBADMSG, "the blob %s of the store is damaged", w->d.digest.text);
	return registry_put_blob(p->g, h, &w->d, fd, w->from, events);
}

static void write_referrers(
	struct json_out *o, const struct document *before, const struct descriptor *added)
{
	json_out_object(o, NULL);
	json_out_u64(o, "schemaVersion", 2);
	json_out_str(o, "mediaType", MEDIA_OCI_INDEX);
	json_out_array(o, "manifests");
	for (size_t i = 0; i < before->nmanifests; i++)
		if (!digest_equal(&before->manifests[i].digest, &added->digest))
			descriptor_write(o, NULL, &before->manifests[i]);
	descriptor_write(o, NULL, added);
	json_out_end_array(o);
	json_out_end_object(o);
}

/*
 * Adds a manifest to the list of its subject's referrers. If the registry does not keep such lists
 * itself, the client keeps them in an index with a tag of its own (distribution-spec, "Pushing
 * Manifests with Subject").
 */
static int add_referrer(
	struct push *p, struct http *h, const struct document *doc, const struct descriptor *d)
{
	_cleanup_manifest_ struct manifest old = {0}, new = {0};
	_cleanup_json_out_ struct json_out o = {0};
	struct document before = {.kind = DOCUMENT_INDEX};
	struct descriptor added = *d;
	const char *tag = registry_referrers_tag(p->a, &doc->subject.digest), *text;
	size_t len;
	bool ignored;

	if (!tag)
		return -ENOMEM;
	int r = registry_get_manifest(p->g, h, tag, &old);
	if (r >= 0)
		r = document_parse(p->a, &old.text, tag, MEDIA_OCI_INDEX, &before);
	else if (r == -ENOENT)
		r = 0;
	if (r >= 0)
		r = json_out_init(&o, false);
	if (r < 0)
		return r;
	added.artifact_type = doc->artifact_type ? doc->artifact_type : doc->config.media_type;
	added.annotations = doc->annotations;
	added.ref_name = NULL;
	added.platform = (struct platform){0};
	write_referrers(&o, &before, &added);
	r = json_out_text(&o, &text, &len);
	if (r >= 0)
		r = strbuf_add(&new.text, text, len);
	snprintf(new.media_type, sizeof(new.media_type), "%s", MEDIA_OCI_INDEX);
	if (r >= 0)
		r = digest_of(DIGEST_SHA256, text, len, &new.digest);
	return r < 0 ? r : registry_put_manifest(p->g, h, tag, &new, &ignored);
}

/*
 * Uploads all manifests under their digests. The last manifest, which leads to all others, gets the
 * tag too.
 */
static int put_manifests(struct push *p, const char *tag)
{
	_cleanup_http_ struct http h = {0};
	int r = registry_handle(p->g, &h);

	for (size_t i = 0; i < p->nmanifests && r >= 0; i++) {
		_cleanup_manifest_ struct manifest m = {.digest = p->manifests[i].digest};
		const struct descriptor *d = &p->manifests[i];
		bool last = i + 1 == p->nmanifests, keeps_subject;
		struct document doc;
		r = read_document(p, p->a, d, &m.text, &doc);
		if (r < 0)
			break;
		struct descriptor full;
		transfer_descriptor(&m, &doc, &full);
		snprintf(m.media_type, sizeof(m.media_type), "%s", full.media_type);
		r = registry_put_manifest(
			p->g, &h, last && tag ? tag : d->digest.text, &m, &keeps_subject);
		if (r >= 0 && doc.has_subject && !keeps_subject)
			r = add_referrer(p, &h, &doc, &full);
	}
	return r;
}

/*
 * Opens the registry to which the image is pushed. The registry's mirrors are not used, because
 * they are for pulls.
 */
static int open_target(struct arena *a, const struct reference *r, const struct transfer_options *o,
	struct registry *g)
{
	struct registries conf;
	struct endpoints endpoints;
	int rc = registries_load(a, &conf);

	if (rc >= 0)
		rc = registries_endpoints(&conf, a, r, &endpoints);
	if (rc < 0)
		return rc;
	rc = registry_open(g, &endpoints.v[endpoints.n - 1], &o->registry);
	if (rc < 0)
		registry_close(g);
	return rc;
}

static int parse_target(struct arena *a, const char *text, struct reference *ret)
{
	if (reference_is_other_transport(text))
		return err_set(EINVAL,
			"\"%.200s\" is not in a registry: `caisson image export` writes it", text);
	int r = reference_parse(a, text, ret);
	if (r >= 0 && !ret->host)
		return err_set(EINVAL,
			"\"%.200s\" is a short name: give the registry to push to, as in "
			"registry.example.com/%.200s",
			text, text);
	return r;
}

int image_push(const struct store *s, struct arena *a, const char *name, const char *target,
	const struct transfer_options *o, struct transfer_result *ret)
{
	struct registry g;
	struct reference to;
	struct image img = {0};

	*ret = (struct transfer_result){0};
	int r = image_find(s, a, name, &img.name, &img.tag);
	if (r >= 0 && !target && !img.name)
		return err_set(EINVAL, "%.100s is no name: say where the image goes", name);
	if (r >= 0)
		r = parse_target(a, target ? target : img.name, &to);
	if (r >= 0 && o->platform) {
		r = image_read(s, a, o->platform, &img);
		img.tag = img.manifest;
	}
	if (r >= 0)
		r = open_target(a, &to, o, &g);
	if (r < 0)
		return r;
	struct push p = {.s = s, .a = a, .g = &g, .o = o, .blobs = {.a = a}};
	p.manifests = arena_array(a, MANIFESTS_MAX, sizeof(*p.manifests));
	r = p.manifests ? collect(&p, &img.tag, 0) : -ENOMEM;
	if (r >= 0)
		r = find_mounts(&p);
	if (r >= 0)
		r = work_run(&g, &p.blobs, o, put, &p);
	if (r >= 0)
		r = put_manifests(&p, *to.digest.text ? NULL : to.tag ? to.tag : "latest");
	registry_close(&g);
	ret->name = r >= 0 ? reference_text(a, &to) : NULL;
	ret->digest = img.tag.digest;
	return r < 0 ? r : ret->name ? 0 : -ENOMEM;
}
