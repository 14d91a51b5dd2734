/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/export.h"

#include <stdio.h>
#include <sys/stat.h>

#include "images/oci/export_target.h"
#include "images/oci/import.h"

#define MAX_NESTED_INDEXES 4

static int put_layout_blob(struct export_target *t, const struct descriptor *d)
{
	char name[DIGEST_TEXT_SIZE + 16];

	snprintf(name, sizeof(name), "blobs/%s/%s", digest_algorithm_name(d->digest.algorithm),
		digest_hex(&d->digest));
	return export_blob(t, name, d);
}

/*
 * Exports the image or index that d describes, with all blobs to which it refers. If d describes an
 * index, only those of its manifests are exported that are in the store.
 */
static int put_tree(struct export_target *t, const struct descriptor *d, int depth)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	struct document doc;

	if (depth > MAX_NESTED_INDEXES)
		return err_set(EINVAL, "indexes nested deeper than %d", MAX_NESTED_INDEXES);
	int r = store_read_document(t->s, d, &text);
	if (r >= 0)
		r = document_parse(&a, &text, d->digest.text, d->media_type, &doc);
	if (r >= 0)
		r = put_layout_blob(t, d);
	if (r >= 0 && doc.kind == DOCUMENT_MANIFEST)
		r = put_layout_blob(t, &doc.config);
	for (size_t i = 0; r >= 0 && i < doc.nlayers; i++)
		r = put_layout_blob(t, &doc.layers[i]);
	for (size_t i = 0; r >= 0 && i < doc.nmanifests; i++) {
		r = store_has_blob(t->s, &doc.manifests[i].digest, doc.manifests[i].size);
		if (r > 0)
			r = put_tree(t, &doc.manifests[i], depth + 1);
	}
	return r;
}

/*
 * Images that go into one archive or layout. The tag of each image has the name that the image gets
 * there.
 */
struct exported {
	const struct store *s;
	struct arena *a;
	struct image *v;
	size_t n;
};

/*
 * Writes index.json. It lists the images and the entries of the layout's former index.json
 * (`before`; NULL: none), except for the entries with the new images' names.
 */
static int put_index(
	struct export_target *t, const struct document *before, const struct exported *e)
{
	struct document index = before ? *before : (struct document){0};
	size_t cap = index.nmanifests + e->n, n = 0;
	struct descriptor *all = arena_array(e->a, cap, sizeof(*all));
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;

	if (!all)
		return -ENOMEM;
	for (size_t i = 0; i < index.nmanifests; i++) {
		const char *name = index.manifests[i].ref_name;
		bool replaced = false;
		for (size_t k = 0; k < e->n && name; k++)
			replaced |= e->v[k].tag.ref_name && streq(name, e->v[k].tag.ref_name);
		if (!replaced)
			all[n++] = index.manifests[i];
	}
	for (size_t k = 0; k < e->n; k++)
		all[n++] = e->v[k].tag;
	index.manifests = all;
	index.nmanifests = n;
	int r = json_out_init(&o, false);
	if (r < 0)
		return r;
	index_write(&o, &index, NULL, NULL);
	r = json_out_text(&o, &text, &len);
	return r < 0 ? r : export_bytes(t, "index.json", text, len);
}

static const char layout_text[] = "{\"imageLayoutVersion\":\"1.0.0\"}";

static int export_oci(const struct exported *e, const char *path)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	_cleanup_export_ struct export_target t = EXPORT_TARGET_INIT;
	struct document before;
	struct stat st;
	int r = export_open_dir(&t, e->s, path, true);

	bool had = r >= 0 && fstatat(t.fd, "index.json", &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (had && !S_ISREG(st.st_mode))
		r = err_set(EINVAL, "its index.json is not a regular file");
	if (had && r >= 0)
		r = fd_read_regular(t.fd, "index.json", &text, OCI_DOCUMENT_MAX);
	if (had && r >= 0)
		r = document_parse(e->a, &text, "its index.json", MEDIA_OCI_INDEX, &before);
	for (size_t i = 0; i < e->n && r >= 0; i++)
		r = put_tree(&t, &e->v[i].tag, 0);
	if (r >= 0)
		r = export_bytes(&t, "oci-layout", layout_text, strlen(layout_text));
	return r < 0 ? r : put_index(&t, had ? &before : NULL, e);
}

static int export_dir(const struct exported *e, const char *path)
{
	static const char version[] = "Directory Transport Version: 1.1\n";
	_cleanup_export_ struct export_target t = EXPORT_TARGET_INIT;
	const struct image *img = e->v;
	int r = export_open_dir(&t, e->s, path, false);

	if (r >= 0)
		r = export_bytes(&t, "version", version, strlen(version));
	if (r >= 0)
		r = export_blob(
			&t, digest_hex(&img->document.config.digest), &img->document.config);
	for (size_t i = 0; r >= 0 && i < img->document.nlayers; i++)
		r = export_blob(
			&t, digest_hex(&img->document.layers[i].digest), &img->document.layers[i]);
	return r < 0 ? r : export_blob(&t, "manifest.json", &img->manifest);
}

static int export_oci_archive(const struct exported *e, const char *path)
{
	_cleanup_export_ struct export_target t = EXPORT_TARGET_INIT;
	int r = export_open_tar(&t, e->s, path);

	if (r < 0)
		return r;
	r = export_bytes(&t, "oci-layout", layout_text, strlen(layout_text));
	if (r >= 0)
		r = put_index(&t, NULL, e);
	for (size_t i = 0; i < e->n && r >= 0; i++)
		r = put_tree(&t, &e->v[i].tag, 0);
	return export_close_tar(&t, path, r);
}

static const char *layer_name(struct arena *a, const struct descriptor *d)
{
	return arena_printf(a, "%s.tar%s", digest_hex(&d->digest),
		str_ends(d->media_type, "gzip") ? ".gz" : "");
}

static bool same_image(const struct image *one, const struct image *other)
{
	return digest_equal(&one->manifest.digest, &other->manifest.digest);
}

/*
 * Writes docker's member RepoTags: the name of image `index`, and the names of later images in the
 * list that are the same image.
 */
static void put_docker_names(struct json_out *o, const struct exported *e, size_t index)
{
	json_out_array(o, "RepoTags");
	for (size_t i = index; i < e->n; i++) {
		const char *tag = e->v[i].tag.ref_name;
		const char *slash = tag ? strrchr(tag, '/') : NULL;
		if (tag && same_image(&e->v[index], &e->v[i]))
			json_out_str(o, NULL,
				strchr(slash ? slash : tag, ':')
					? tag
					: arena_printf(e->a, "%s:latest", tag));
	}
	json_out_end_array(o);
}

static int put_docker_manifest(struct export_target *t, const struct exported *e)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;
	int r = json_out_init(&o, false);

	if (r < 0)
		return r;
	json_out_array(&o, NULL);
	for (size_t i = 0; i < e->n; i++) {
		const struct document *doc = &e->v[i].document;
		bool again = false;
		for (size_t k = 0; k < i; k++)
			again |= same_image(&e->v[k], &e->v[i]);
		if (again)
			continue;
		json_out_object(&o, NULL);
		json_out_str(&o, "Config",
			arena_printf(e->a, "%s.json", digest_hex(&doc->config.digest)));
		put_docker_names(&o, e, i);
		json_out_array(&o, "Layers");
		for (size_t k = 0; k < doc->nlayers; k++)
			json_out_str(&o, NULL, layer_name(e->a, &doc->layers[k]));
		json_out_end_array(&o);
		json_out_end_object(&o);
	}
	json_out_end_array(&o);
	r = json_out_text(&o, &text, &len);
	return r < 0 ? r : export_bytes(t, "manifest.json", text, len);
}

static int put_docker_image(struct export_target *t, struct arena *a, const struct document *doc)
{
	const char *name = arena_printf(a, "%s.json", digest_hex(&doc->config.digest));
	int r = name ? export_blob(t, name, &doc->config) : -ENOMEM;

	for (size_t i = 0; r >= 0 && i < doc->nlayers; i++) {
		name = layer_name(a, &doc->layers[i]);
		r = name ? export_blob(t, name, &doc->layers[i]) : -ENOMEM;
	}
	return r;
}

static int export_docker_archive(const struct exported *e, const char *path)
{
	_cleanup_export_ struct export_target t = EXPORT_TARGET_INIT;
	int r = export_open_tar(&t, e->s, path);

	if (r < 0)
		return r;
	r = put_docker_manifest(&t, e);
	for (size_t i = 0; i < e->n && r >= 0; i++)
		r = put_docker_image(&t, e->a, &e->v[i].document);
	return export_close_tar(&t, path, r);
}

struct transport {
	const char *name; /* name of the transport, with the colon */
	/*
	 * whether the format can hold the image of one platform only, so that the image's documents
	 * are read to find that platform's image
	 */
	bool needs_image;
	bool has_name;
	int (*export)(const struct exported *e, const char *path);
};

static const struct transport transports[] = {
	{"oci:", false, true, export_oci},
	{"dir:", true, false, export_dir},
	{"oci-archive:", false, true, export_oci_archive},
	{"docker-archive:", true, true, export_docker_archive},
};

static int find_image(const struct exported *e, const char *name, bool whole, struct image *ret)
{
	*ret = (struct image){0};
	int r = image_find(e->s, e->a, name, &ret->name, &ret->tag);
	if (r >= 0 && whole)
		r = image_read(e->s, e->a, NULL, ret);
	ret->tag.ref_name = ret->name;
	return r;
}

int image_export(const struct store *s, struct arena *a, const char *name, const char *target)
{
	struct image img;
	const struct exported e = {s, a, &img, 1};
	const char *path, *reference = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(transports); i++) {
		const struct transport *t = &transports[i];
		if (!str_starts(target, t->name))
			continue;
		path = target + strlen(t->name);
		int r = t->has_name ? split_path(a, path, &path, &reference) : 0;
		if (r >= 0)
			r = find_image(&e, name, t->needs_image, &img);
		if (r < 0)
			return r;
		if (reference)
			img.tag.ref_name = reference;
		r = t->export(&e, path);
		return r < 0 ? err_ctx(r, "%.200s", target) : 0;
	}
	return err_set(EINVAL,
		"\"%.100s\": expected oci:DIR[:TAG], oci-archive:FILE[:TAG], "
		"docker-archive:FILE[:REF] or dir:DIR",
		target);
}

int image_save(const struct store *s, struct arena *a, const struct image_saving *saving)
{
	struct exported e = {s, a, arena_array(a, saving->nnames, sizeof(*e.v)), 0};
	bool docker = saving->form == SAVE_DOCKER_ARCHIVE;
	int r = e.v ? 0 : -ENOMEM;

	for (size_t i = 0; i < saving->nnames && r >= 0; i++) {
		bool again = false;
		r = find_image(&e, saving->names[i], docker, &e.v[e.n]);
		for (size_t k = 0; k < e.n && r >= 0; k++)
			again |= e.v[k].name && e.v[e.n].name && streq(e.v[k].name, e.v[e.n].name);
		e.n += again ? 0 : 1;
	}
	if (r >= 0)
		r = docker ? export_docker_archive(&e, saving->path)
			   : export_oci_archive(&e, saving->path);
	return r;
}
