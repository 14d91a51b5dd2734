/* SPDX-License-Identifier: Apache-2.0 */
/* Imports images from what `docker save` writes: manifest.json, configurations and layers. */
#include "images/oci/archive_internal.h"
#include "images/oci/fields.h"

#define TAGS_MAX 1000u /* how many tags one image may have */

/* One image in the manifest.json of docker: an element of its array. */
struct docker_image {
	const char *config;
	/*
	 * arrays of strings: the names of the layers' files in the archive, and the tags; tags may
	 * be NULL
	 */
	const struct json *layers, *tags;
};

static int parse_docker_image(const struct json *n, struct docker_image *ret)
{
	static const char what[] = "manifest.json";

	if (n->type != JSON_OBJECT)
		return err_set(EINVAL, "%s has an element that is %s: expected an object", what,
			json_type_name(n->type));
	int r = field_string(&(struct field){n, what, "Config"}, &ret->config);
	if (r >= 0)
		r = field_array(&(struct field){n, what, "Layers"}, OCI_LAYERS_MAX, &ret->layers);
	if (r >= 0)
		r = field_array(&(struct field){n, what, "RepoTags"}, TAGS_MAX, &ret->tags);
	if (r < 0)
		return r;
	if (!ret->config)
		return err_set(EINVAL, "%s: Config is missing", what);
	const struct json *lists[] = {ret->layers, ret->tags};
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		for (const struct json *m = lists[i] ? lists[i]->first : NULL; m; m = m->next)
			if (m->type != JSON_STRING)
				return err_set(EINVAL,
					"%s: %s has an element that is %s: expected a string", what,
					i ? "RepoTags" : "Layers", json_type_name(m->type));
	return 0;
}

static const char *layer_type(const unsigned char head[4])
{
	static const unsigned char zstd[] = {0x28, 0xb5, 0x2f, 0xfd};

	if (head[0] == 0x1f && head[1] == 0x8b)
		return MEDIA_OCI_LAYER_GZIP;
	if (memcmp(head, zstd, sizeof(zstd)) == 0 ||
		((head[0] & 0xf0) == 0x50 && head[1] == 0x2a && head[2] == 0x4d))
		return MEDIA_OCI_LAYER_ZSTD;
	return MEDIA_OCI_LAYER;
}

/* Makes the descriptor of a layer. The first bytes of the layer tell how it is compressed. */
static int describe_layer(const struct archive *ar, const struct member *m, struct descriptor *ret)
{
	unsigned char head[4] = {0};
	_cleanup_fd_ int fd = store_open_blob(ar->s, &m->digest, NULL);

	if (fd < 0)
		return fd;
	if (pread(fd, head, sizeof(head), 0) < 0)
		return err_sys("read the blob %s", m->digest.text);
	*ret = (struct descriptor){
		.media_type = layer_type(head), .digest = m->digest, .size = m->size};
	return 0;
}

static int write_manifest(
	const struct archive *ar, const struct docker_image *img, struct descriptor *ret)
{
	_cleanup_json_out_ struct json_out o = {0};
	const struct member *m;
	struct descriptor d;
	const char *text;
	size_t len;

	int r = archive_find(ar, img->config, &m);
	if (r >= 0)
		r = json_out_init(&o, false);
	if (r < 0)
		return r;
	d = (struct descriptor){
		.media_type = MEDIA_OCI_CONFIG, .digest = m->digest, .size = m->size};
	json_out_object(&o, NULL);
	json_out_u64(&o, "schemaVersion", 2);
	json_out_str(&o, "mediaType", MEDIA_OCI_MANIFEST);
	descriptor_write(&o, "config", &d);
	json_out_array(&o, "layers");
	for (const struct json *n = img->layers ? img->layers->first : NULL; n && r >= 0;
		n = n->next) {
		r = archive_find(ar, n->text, &m);
		if (r >= 0)
			r = describe_layer(ar, m, &d);
		if (r >= 0)
			descriptor_write(&o, NULL, &d);
	}
	json_out_end_array(&o);
	json_out_end_object(&o);
	if (r >= 0)
		r = json_out_text(&o, &text, &len);
	*ret = (struct descriptor){.media_type = MEDIA_OCI_MANIFEST};
	return r < 0 ? r : store_add_blob(ar->s, text, len, ret);
}

static bool has_tag(const struct docker_image *img, const char *tag)
{
	for (const struct json *n = img->tags ? img->tags->first : NULL; n; n = n->next)
		if (streq(n->text, tag))
			return true;
	return false;
}

static int import_docker_image(const struct archive *ar, const struct docker_image *img,
	const char *ref, const struct import_options *o, struct import_result *ret)
{
	struct descriptor d;
	int r = write_manifest(ar, img, &d);

	if (r < 0)
		return r;
	if (o->name || ref)
		return import_tag(ar->s, ar->a, o->name ? o->name : ref, &d, ret);
	if (!img->tags || !img->tags->first)
		return need_name(o, NULL, &ref);
	for (const struct json *n = img->tags->first; n && r >= 0; n = n->next)
		r = import_tag(ar->s, ar->a, n->text, &d, ret);
	return r;
}

int archive_import_docker(const struct archive *ar, const char *ref, const struct import_options *o,
	struct import_result *ret)
{
	struct json *root;

	if (!ar->manifest.len)
		return err_set(
			ENOENT, "the archive has no manifest.json: it is not `docker save`'s");
	int r = json_parse(
		ar->a, strbuf_str(&ar->manifest), ar->manifest.len, "manifest.json", &root);
	if (r >= 0 && root->type != JSON_ARRAY)
		r = err_set(EINVAL, "manifest.json is %s: expected an array",
			json_type_name(root->type));
	if (r >= 0 && root->count > 1 && o->name && !ref)
		r = err_set(EINVAL, "the archive has %u images: a name can be given for one only",
			root->count);
	for (const struct json *n = r >= 0 ? root->first : NULL; n && r >= 0; n = n->next) {
		struct docker_image img = {0};
		r = parse_docker_image(n, &img);
		if (r >= 0 && (!ref || has_tag(&img, ref)))
			r = import_docker_image(ar, &img, ref, o, ret);
	}
	if (r >= 0 && ret->n == 0)
		r = err_set(ENOENT, "the archive has no image \"%.100s\"", ref ? ref : "");
	return r;
}
