/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parses manifests and indexes. Every error message begins with the name of the document and of the
 * member.
 */
#include <stdio.h>

#include "images/oci/fields.h"

bool media_type_is_index(const char *media_type)
{
	return streq(media_type, MEDIA_OCI_INDEX) || streq(media_type, MEDIA_DOCKER_LIST);
}

bool media_type_is_manifest(const char *media_type)
{
	return streq(media_type, MEDIA_OCI_MANIFEST) || streq(media_type, MEDIA_DOCKER_MANIFEST);
}

bool media_type_is_layer(const char *media_type)
{
	static const char *const types[] = {MEDIA_OCI_LAYER, MEDIA_OCI_LAYER_GZIP,
		MEDIA_OCI_LAYER_ZSTD, MEDIA_DOCKER_LAYER, MEDIA_DOCKER_LAYER_GZIP,
		"application/vnd.docker.image.rootfs.diff.tar.zstd",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (streq(media_type, types[i]))
			return true;
	return false;
}

/*
 * Refuses a document with too many JSON values. The values are counted before yajl builds the tree,
 * because the tree takes about fifty bytes for each value. Without this check a small file of many
 * tiny values would take many times its size in memory.
 */
static int check_values(const struct strbuf *text, const char *what)
{
	const char *s = strbuf_str(text);
	size_t values = 1;
	bool in_string = false;

	for (size_t i = 0; i < text->len; i++) {
		if (s[i] == '\\' && in_string)
			i++;
		else if (s[i] == '"')
			in_string = !in_string;
		else if (!in_string && (s[i] == ',' || s[i] == '[' || s[i] == '{'))
			values++;
	}
	if (values > OCI_VALUES_MAX)
		return err_set(EINVAL, "%s: more than %u values: too many", what, OCI_VALUES_MAX);
	return 0;
}

int fields_parse(
	struct arena *a, const struct strbuf *text, const char *what, const struct json **ret)
{
	struct json *root;

	if (text->len > OCI_DOCUMENT_MAX)
		return err_set(EINVAL, "%s: %zu bytes are more than the limit of %u", what,
			text->len, OCI_DOCUMENT_MAX);
	int r = check_values(text, what);
	if (r >= 0)
		r = json_parse(a, strbuf_str(text), text->len, what, &root);
	if (r < 0)
		return r;
	if (root->type != JSON_OBJECT)
		return err_set(
			EINVAL, "%s is %s: expected an object", what, json_type_name(root->type));
	*ret = root;
	return 0;
}

/*
 * Sets *ret to the member, or to NULL if the member is absent or null. Returns -EINVAL if the
 * member has another type.
 */
static int typed_member(const struct field *f, enum json_type type, const struct json **ret)
{
	const struct json *n = json_get(f->object, f->name);

	*ret = NULL;
	if (!n || n->type == JSON_NULL)
		return 0;
	if (n->type != type)
		return err_set(EINVAL, "%s: %s is %s: expected %s", f->what, f->name,
			json_type_name(n->type), json_type_name(type));
	*ret = n;
	return 0;
}

int field_string(const struct field *f, const char **ret)
{
	const struct json *n;
	int r = typed_member(f, JSON_STRING, &n);

	*ret = n ? n->text : NULL;
	return r;
}

int field_object(const struct field *f, const struct json **ret)
{
	return typed_member(f, JSON_OBJECT, ret);
}

int field_array(const struct field *f, size_t max, const struct json **ret)
{
	int r = typed_member(f, JSON_ARRAY, ret);

	if (r >= 0 && *ret && (*ret)->count > max)
		return err_set(EINVAL, "%s: %s has %u elements: the limit is %zu", f->what, f->name,
			(*ret)->count, max);
	return r;
}

int field_string_map(const struct field *f, const struct json **ret)
{
	int r = typed_member(f, JSON_OBJECT, ret);

	if (r < 0 || !*ret)
		return r;
	for (const struct json *n = (*ret)->first; n; n = n->next)
		if (n->type != JSON_STRING)
			return err_set(EINVAL, "%s: %s has a member that is %s: expected a string",
				f->what, f->name, json_type_name(n->type));
	return 0;
}

static int parse_size(const struct json *object, const char *what, uint64_t *ret)
{
	int64_t size;
	int r = json_get_i64(object, "size", &size);

	if (r == -ENOENT)
		return err_set(EINVAL, "%s: size is missing", what);
	if (r < 0 || size < 0)
		return err_set(
			EINVAL, "%s: size: expected a number of bytes, from 0 to 2^63-1", what);
	*ret = (uint64_t)size;
	return 0;
}

static int parse_platform(const struct json *object, const char *what, struct platform *ret)
{
	const struct json *p;
	int r = field_object(&(struct field){object, what, "platform"}, &p);

	if (r < 0 || !p)
		return r;
	r = field_string(&(struct field){p, what, "architecture"}, &ret->architecture);
	if (r >= 0)
		r = field_string(&(struct field){p, what, "os"}, &ret->os);
	if (r >= 0)
		r = field_string(&(struct field){p, what, "variant"}, &ret->variant);
	if (r >= 0)
		r = field_string(&(struct field){p, what, "os.version"}, &ret->os_version);
	return r;
}

static int parse_descriptor(const struct json *object, const char *what, struct descriptor *ret)
{
	const char *digest = NULL;

	*ret = (struct descriptor){0};
	if (object->type != JSON_OBJECT)
		return err_set(
			EINVAL, "%s is %s: expected an object", what, json_type_name(object->type));
	int r = field_string(&(struct field){object, what, "mediaType"}, &ret->media_type);
	if (r >= 0)
		r = field_string(&(struct field){object, what, "digest"}, &digest);
	if (r >= 0 && !digest)
		return err_set(EINVAL, "%s: digest is missing", what);
	if (r >= 0)
		r = digest_parse(digest, what, &ret->digest);
	if (r >= 0)
		r = parse_size(object, what, &ret->size);
	if (r >= 0)
		r = parse_platform(object, what, &ret->platform);
	if (r >= 0)
		r = field_string(
			&(struct field){object, what, "artifactType"}, &ret->artifact_type);
	if (r >= 0)
		r = field_string_map(
			&(struct field){object, what, "annotations"}, &ret->annotations);
	if (!ret->media_type)
		ret->media_type = "";
	ret->ref_name = json_get_str(ret->annotations, ANNOTATION_REF_NAME);
	return r;
}

struct list {
	struct descriptor *v;
	size_t n;
};

static int parse_descriptors(struct arena *a, const struct field *f, size_t max, struct list *ret)
{
	const struct json *array;
	char where[200];
	int r = field_array(f, max, &array);

	if (r < 0)
		return r;
	if (!array)
		return 0;
	ret->v = arena_array(a, array->count + 1, sizeof(*ret->v));
	if (!ret->v)
		return -ENOMEM;
	for (const struct json *n = array->first; n && r >= 0; n = n->next, ret->n++) {
		snprintf(where, sizeof(where), "%s: %s[%zu]", f->what, f->name, ret->n);
		r = parse_descriptor(n, where, &ret->v[ret->n]);
	}
	return r;
}

static int parse_manifest(
	struct arena *a, const struct json *root, const char *what, struct document *ret)
{
	struct list layers = {0};
	const struct json *config, *subject;
	char where[200];

	ret->kind = DOCUMENT_MANIFEST;
	int r = field_object(&(struct field){root, what, "config"}, &config);
	if (r >= 0 && !config)
		return err_set(EINVAL, "%s: config is missing", what);
	snprintf(where, sizeof(where), "%s: config", what);
	if (r >= 0)
		r = parse_descriptor(config, where, &ret->config);
	if (r >= 0)
		r = parse_descriptors(
			a, &(struct field){root, what, "layers"}, OCI_LAYERS_MAX, &layers);
	ret->layers = layers.v;
	ret->nlayers = layers.n;
	if (r >= 0)
		r = field_object(&(struct field){root, what, "subject"}, &subject);
	if (r < 0 || !subject)
		return r;
	ret->has_subject = true;
	snprintf(where, sizeof(where), "%s: subject", what);
	return parse_descriptor(subject, where, &ret->subject);
}

static int parse_index(
	struct arena *a, const struct json *root, const char *what, struct document *ret)
{
	struct list manifests = {0};

	ret->kind = DOCUMENT_INDEX;
	int r = parse_descriptors(
		a, &(struct field){root, what, "manifests"}, OCI_INDEX_MAX, &manifests);
	ret->manifests = manifests.v;
	ret->nmanifests = manifests.n;
	return r;
}

static int check_version(const struct json *root, const char *what)
{
	int64_t version;
	int r = json_get_i64(root, "schemaVersion", &version);

	if (r == -ENOENT)
		return err_set(EINVAL, "%s: schemaVersion is missing: expected 2", what);
	if (r >= 0 && version == 1)
		return err_set(EINVAL,
			"%s: an image manifest of docker's schema 1, which is no longer in use: "
			"push the image again with a newer tool",
			what);
	if (r < 0 || version != 2)
		return err_set(EINVAL, "%s: schemaVersion: expected 2", what);
	return 0;
}

/*
 * Refuses a document that has the members of a manifest and of an index, because some programs
 * would take it for a manifest and others for an index, so that they would see different images
 * (CVE-2021-41190).
 */
static int check_kind(const struct json *root, const char *what, bool index)
{
	const struct json *manifests = json_get(root, "manifests");

	if (manifests && (json_get(root, "layers") || json_get(root, "config")))
		return err_set(EINVAL, "%s has members of a manifest and of an index", what);
	if (index != (manifests != NULL))
		return err_set(EINVAL, "%s: its media type is that of %s, its members are not",
			what, index ? "an index" : "a manifest");
	return 0;
}

int document_parse(struct arena *a, const struct strbuf *text, const char *what,
	const char *media_type, struct document *ret)
{
	const struct json *root;
	const char *said;

	*ret = (struct document){0};
	int r = fields_parse(a, text, what, &root);
	if (r >= 0)
		r = check_version(root, what);
	if (r >= 0)
		r = field_string(&(struct field){root, what, "mediaType"}, &said);
	if (r < 0)
		return r;
	bool known = media_type &&
		     (media_type_is_index(media_type) || media_type_is_manifest(media_type));
	if (said && *said && known && !streq(said, media_type))
		return err_set(EINVAL, "%s says that it is %.100s, but came as %.100s", what, said,
			media_type);
	ret->media_type = said && *said ? said : known ? media_type : "";
	bool index = json_get(root, "manifests") != NULL;
	if (*ret->media_type) {
		if (!media_type_is_index(ret->media_type) &&
			!media_type_is_manifest(ret->media_type))
			return err_set(EINVAL,
				"%s: mediaType %.100s is neither a manifest's nor an index's", what,
				ret->media_type);
		index = media_type_is_index(ret->media_type);
	}
	r = check_kind(root, what, index);
	if (r >= 0)
		r = index ? parse_index(a, root, what, ret) : parse_manifest(a, root, what, ret);
	if (r >= 0)
		r = field_string(&(struct field){root, what, "artifactType"}, &ret->artifact_type);
	if (r >= 0)
		r = field_string_map(&(struct field){root, what, "annotations"}, &ret->annotations);
	return r;
}

static void write_optional(struct json_out *o, const char *key, const char *value)
{
	if (value && *value)
		json_out_str(o, key, value);
}

void descriptor_write(struct json_out *o, const char *key, const struct descriptor *d)
{
	const struct platform *p = &d->platform;

	json_out_object(o, key);
	write_optional(o, "mediaType", d->media_type);
	json_out_str(o, "digest", d->digest.text);
	json_out_u64(o, "size", d->size);
	if (p->architecture || p->os) {
		json_out_object(o, "platform");
		json_out_str(o, "architecture", p->architecture ? p->architecture : "");
		json_out_str(o, "os", p->os ? p->os : "");
		write_optional(o, "os.version", p->os_version);
		write_optional(o, "variant", p->variant);
		json_out_end_object(o);
	}
	write_optional(o, "artifactType", d->artifact_type);
	if (d->annotations || d->ref_name) {
		json_out_object(o, "annotations");
		for (const struct json *n = d->annotations ? d->annotations->first : NULL; n;
			n = n->next)
			if (!streq(n->key, ANNOTATION_REF_NAME))
				json_out_str(o, n->key, n->text);
		write_optional(o, ANNOTATION_REF_NAME, d->ref_name);
		json_out_end_object(o);
	}
	json_out_end_object(o);
}

void index_write(struct json_out *o, const struct document *index, const char *without,
	const struct descriptor *added)
{
	json_out_object(o, NULL);
	json_out_u64(o, "schemaVersion", 2);
	json_out_str(o, "mediaType", MEDIA_OCI_INDEX);
	json_out_array(o, "manifests");
	for (size_t i = 0; index && i < index->nmanifests; i++) {
		const struct descriptor *d = &index->manifests[i];
		if (!without || !d->ref_name || !streq(d->ref_name, without))
			descriptor_write(o, NULL, d);
	}
	if (added)
		descriptor_write(o, NULL, added);
	json_out_end_array(o);
	json_out_end_object(o);
}
