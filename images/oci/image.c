/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/image.h"

#include <stdio.h>

#define MAX_NESTED_INDEXES 4
#define PREFIX_MIN 8 /* smallest number of digits of a digest by which an image can be named */

static bool begins(const struct digest *d, const char *prefix)
{
	return str_starts(d->text, prefix) || str_starts(digest_hex(d), prefix);
}

/* Returns whether `name` is a digest, or has enough digits to be the beginning of a digest. */
static bool looks_like_digest(const char *name)
{
	const char *digits = str_starts(name, "sha256:") || str_starts(name, "sha512:")
				     ? name + sizeof("sha256:") - 1
				     : name;
	size_t n = strspn(digits, "0123456789abcdef");

	return n >= PREFIX_MIN && !digits[n];
}

/*
 * Sets *ret to the digest of the configuration to which a manifest refers. docker uses this digest
 * as the image's ID.
 */
static int config_digest(const struct store *s, const struct descriptor *d, struct digest *ret)
{
	_cleanup_arena_ struct arena a = {0};
	_cleanup_strbuf_ struct strbuf text = {0};
	struct document doc;

	ret->text[0] = '\0';
	if (!media_type_is_manifest(d->media_type))
		return 0;
	int r = store_read_document(s, d, &text);
	if (r >= 0)
		r = document_parse(&a, &text, d->digest.text, d->media_type, &doc);
	if (r >= 0 && doc.kind == DOCUMENT_MANIFEST)
		*ret = doc.config.digest;
	return r;
}

static int find_by_digest(const struct store *s, const struct document *tags, const char *name,
	const struct descriptor **ret)
{
	*ret = NULL;
	for (size_t i = 0; i < tags->nmanifests; i++) {
		const struct descriptor *d = &tags->manifests[i];
		struct digest config;
		bool same = begins(&d->digest, name);
		if (!same && config_digest(s, d, &config) >= 0 && *config.text)
			same = begins(&config, name);
		if (!same || (*ret && digest_equal(&(*ret)->digest, &d->digest)))
			continue;
		if (*ret)
			return err_set(EINVAL,
				"more than one image has a digest that begins with %s: give more "
				"digits",
				name);
		*ret = d;
	}
	err_clear();
	return 0;
}

/*
 * Finds a tag by its name or by docker's short form of the name: "debian" finds
 * docker.io/library/debian:latest.
 */
static int find_by_name(
	const struct document *tags, const char *name, const struct descriptor **ret)
{
	static const char *const prefixes[] = {
		"", "docker.io/library/", "docker.io/", "localhost/"};
	const char *slash = strrchr(name, '/');
	bool tagged = strchr(slash ? slash : name, ':') || strchr(name, '@');
	char full[600];

	*ret = NULL;
	for (size_t p = 0; p < ARRAY_SIZE(prefixes); p++)
		for (int with_latest = 0; with_latest < (tagged ? 1 : 2); with_latest++) {
			int n = snprintf(full, sizeof(full), "%s%s%s", prefixes[p], name,
				with_latest ? ":latest" : "");
			if (n >= (int)sizeof(full))
				return err_set(ENAMETOOLONG, "the image's name is too long");
			for (size_t i = 0; i < tags->nmanifests; i++)
				if (tags->manifests[i].ref_name &&
					streq(tags->manifests[i].ref_name, full)) {
					*ret = &tags->manifests[i];
					return 0;
				}
		}
	return 0;
}

int image_find(const struct store *s, struct arena *a, const char *name, const char **ret_tag,
	struct descriptor *ret)
{
	const struct descriptor *found;
	struct document tags;
	int r = store_tags(s, a, &tags);

	if (r >= 0)
		r = find_by_name(&tags, name, &found);
	if (r >= 0 && !found && looks_like_digest(name))
		r = find_by_digest(s, &tags, name, &found);
	if (r < 0)
		return r;
	if (!found)
		return err_set(ENOENT,
			"no image \"%.200s\" in the store %s: `caisson image ls` lists them", name,
			s->path);
	*ret = *found;
	*ret_tag = found->ref_name;
	return 0;
}

static int read_manifest(const struct store *s, struct arena *a, const struct platform *platform,
	struct image *img, int depth)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	const struct descriptor *chosen;

	int r = store_read_document(s, &img->manifest, &text);
	if (r >= 0)
		r = document_parse(a, &text, img->manifest.digest.text, img->manifest.media_type,
			&img->document);
	if (r < 0 || img->document.kind == DOCUMENT_MANIFEST)
		return r;
	if (depth == MAX_NESTED_INDEXES)
		return err_set(EINVAL, "%s: indexes nested deeper than %d",
			img->manifest.digest.text, MAX_NESTED_INDEXES);
	r = index_choose(&img->document, platform, &chosen);
	if (r < 0)
		return r;
	img->manifest = *chosen;
	return read_manifest(s, a, platform, img, depth + 1);
}

int image_read_config(const struct store *s, struct arena *a, struct image *img)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	const struct descriptor *d = &img->document.config;

	if (!streq(d->media_type, MEDIA_OCI_CONFIG) && !streq(d->media_type, MEDIA_DOCKER_CONFIG) &&
		*d->media_type)
		return err_set(EPROTONOSUPPORT,
			"%s is not a container image: its configuration is of the type %.100s",
			img->manifest.digest.text, d->media_type);
	int r = store_read_document(s, d, &text);
	if (r >= 0)
		r = image_config_parse(a, &text, d->digest.text, &img->config);
	if (r < 0)
		return r;
	img->config_len = text.len;
	img->config_text = arena_strndup(a, strbuf_str(&text), text.len);
	return img->config_text ? 0 : -ENOMEM;
}

int image_read_manifest(
	const struct store *s, struct arena *a, const struct platform *platform, struct image *img)
{
	const struct platform host = platform_host();

	img->manifest = img->tag;
	return read_manifest(s, a, platform ? platform : &host, img, 0);
}

int image_read(
	const struct store *s, struct arena *a, const struct platform *platform, struct image *img)
{
	int r = image_read_manifest(s, a, platform, img);

	return r < 0 ? r : image_read_config(s, a, img);
}

int image_open(const struct store *s, struct arena *a, const char *name,
	const struct platform *platform, struct image *ret)
{
	*ret = (struct image){0};
	int r = image_find(s, a, name, &ret->name, &ret->tag);
	if (r >= 0)
		r = image_read(s, a, platform, ret);
	return r < 0 ? err_ctx(r, "image %.200s", name) : 0;
}

int image_check_layers(const struct image *img)
{
	const struct document *doc = &img->document;

	if (img->config.ndiff_ids != doc->nlayers)
		return err_set(EBADMSG,
			"the manifest has %zu layers, the configuration %zu diff_ids", doc->nlayers,
			img->config.ndiff_ids);
	for (size_t i = 0; i < doc->nlayers; i++)
		if (*doc->layers[i].media_type && !media_type_is_layer(doc->layers[i].media_type))
			return err_set(EPROTONOSUPPORT,
				"layer %zu is of the type %.100s, which is no file system layer",
				i + 1, doc->layers[i].media_type);
	return 0;
}

int image_apply_layer(const struct store *s, const struct image *img, size_t index, int root,
	const struct tree_options *options, const struct unpack_progress *progress)
{
	const struct descriptor *d = &img->document.layers[index];
	struct layer_result result;
	char what[64];
	const struct layer layer = {.what = what,
		.size = d->size,
		.diff_id = &img->config.diff_ids[index],
		.more = img->source ? img->source->more : NULL,
		.more_data = img->source ? img->source->data : NULL,
		.progress = progress ? progress->bytes : NULL,
		.data = progress ? progress->data : NULL};

	snprintf(what, sizeof(what), "layer %zu of %zu", index + 1, img->document.nlayers);
	if (progress)
		progress->layer(progress->data, index, img->document.nlayers, d);
	_cleanup_fd_ int fd = img->source ? img->source->open(img->source->data, d)
					  : store_open_blob(s, &d->digest, NULL);
	return fd < 0 ? fd : layer_apply(&layer, fd, root, options, &result);
}

int image_unpack(const struct store *s, const struct image *img, int root,
	const struct tree_options *options, const struct unpack_progress *progress)
{
	int r = image_check_layers(img);

	for (size_t i = 0; i < img->document.nlayers && r >= 0; i++)
		r = image_apply_layer(s, img, i, root, options, progress);
	return r;
}
