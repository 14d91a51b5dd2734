/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/commit.h"

#include <limits.h>
#include <stdio.h>
#include <time.h>

#include "base/json.h"

#define CONFIG_MAX (16u << 20) /* largest config.json of a container in bytes */

struct committing {
	const struct store *s;
	struct arena *arena;
	const struct commit_options *options;
	struct image base;
	struct container_changes changes;
};

/*
 * Reads the image that the container came from. The image is found by its digest, because its name
 * may lead to another image now.
 */
static int read_base(struct committing *c, const struct container_uses *uses)
{
	uint64_t size;
	_cleanup_fd_ int fd = store_open_blob(c->s, &uses->manifest, &size);

	if (fd < 0)
		return err_ctx(fd, "the image %.200s of the container", uses->image);
	c->base.tag = (struct descriptor){.media_type = "", .digest = uses->manifest, .size = size};
	int r = image_read(c->s, c->arena, NULL, &c->base);
	if (r >= 0)
		r = image_check_layers(&c->base);
	if (r >= 0 && c->base.document.nlayers >= OCI_LAYERS_MAX)
		return err_set(E2BIG, "the image has %zu layers already: the limit is %u",
			c->base.document.nlayers, OCI_LAYERS_MAX);
	return r;
}

int container_changes_open(const struct store *s, struct arena *a, const char *name,
	const struct container_uses *uses, struct container_changes *ret)
{
	_cleanup_strbuf_ struct strbuf text = {0};
	char path[NAME_MAX + 32];

	*ret = (struct container_changes){.upper = -EBADF};
	if (!*uses->layers)
		return err_set(EOPNOTSUPP,
			"container \"%.200s\" has a copy of its image, because overlayfs cannot be "
			"used "
			"here: what it changed is not known",
			name);
	snprintf(path, sizeof(path), "%.255s/config.json", name);
	int r = fd_read_file(s->containers, path, &text, CONFIG_MAX);
	if (r >= 0)
		r = json_parse(a, strbuf_str(&text), text.len, path, &ret->config);
	if (r < 0)
		return r;
	snprintf(path, sizeof(path), "%.255s/upper", name);
	ret->upper = openat(s->containers, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (ret->upper < 0 && errno == ENOENT)
		return err_set(EOPNOTSUPP,
			"container \"%.200s\" keeps its changes in the memory of its microVM "
			"(--root-disk erofs): what it changed is not known here",
			name);
	return ret->upper < 0 ? err_sys("open %s/containers/%s", s->path, path) : 0;
}

bool container_is_mount_point(const struct container_changes *c, const char *path)
{
	const struct json *mounts = json_get(c->config, "mounts");

	for (const struct json *n = mounts && mounts->type == JSON_ARRAY ? mounts->first : NULL; n;
		n = n->next) {
		const char *to = json_get_str(n, "destination");
		if (to && streq(to + strspn(to, "/"), path))
			return true;
	}
	return false;
}

static bool is_mount_point(void *data, const char *path)
{
	const struct committing *c = data;

	return container_is_mount_point(&c->changes, path);
}

static void time_text(int64_t seconds, char *buf, size_t size)
{
	time_t t = (time_t)seconds;
	struct tm tm;

	gmtime_r(&t, &tm);
	strftime(buf, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static int write_config(
	const struct committing *c, const struct digest *diff_id, struct descriptor *ret)
{
	_cleanup_json_out_ struct json_out o = {0};
	struct json *old;
	char created[32];
	const char *text;
	size_t len;

	int r = json_parse(c->arena, c->base.config_text, c->base.config_len,
		"the image's configuration", &old);
	if (r >= 0)
		r = json_out_init(&o, false);
	if (r < 0)
		return r;
	time_text(c->options->created, created, sizeof(created));
	const struct commit_config config = {.old = old,
		.diff_id = diff_id,
		.options = c->options,
		.created = created,
		.arena = c->arena};
	r = commit_config_write(&o, &config);
	if (r >= 0)
		r = json_out_text(&o, &text, &len);
	*ret = (struct descriptor){.media_type = MEDIA_OCI_CONFIG};
	return r < 0 ? r : store_add_blob(c->s, text, len, ret);
}

/*
 * Returns the OCI media type of a layer. docker's manifests have another media type for the same
 * bytes.
 */
static const char *oci_type(const char *type)
{
	return streq(type, MEDIA_DOCKER_LAYER_GZIP) ? MEDIA_OCI_LAYER_GZIP
	       : streq(type, MEDIA_DOCKER_LAYER)    ? MEDIA_OCI_LAYER
						    : type;
}

static int write_manifest(const struct committing *c, const struct descriptor *config,
	const struct descriptor *layer, struct descriptor *ret)
{
	_cleanup_json_out_ struct json_out o = {0};
	const char *text;
	size_t len;
	int r = json_out_init(&o, false);

	if (r < 0)
		return r;
	json_out_object(&o, NULL);
	json_out_u64(&o, "schemaVersion", 2);
	json_out_str(&o, "mediaType", MEDIA_OCI_MANIFEST);
	descriptor_write(&o, "config", config);
	json_out_array(&o, "layers");
	for (size_t i = 0; i < c->base.document.nlayers; i++) {
		struct descriptor d = c->base.document.layers[i];
		d.media_type = oci_type(d.media_type);
		descriptor_write(&o, NULL, &d);
	}
	descriptor_write(&o, NULL, layer);
	json_out_end_array(&o);
	json_out_end_object(&o);
	r = json_out_text(&o, &text, &len);
	*ret = (struct descriptor){.media_type = MEDIA_OCI_MANIFEST};
	return r < 0 ? r : store_add_blob(c->s, text, len, ret);
}

static int commit(struct committing *c, struct descriptor *ret)
{
	const struct layer_writing writing = {.upper = c->changes.upper,
		.compression = c->options->compression,
		.is_mount_point = is_mount_point,
		.warn = c->options->warn,
		.data = c};
	struct descriptor layer, config;
	struct digest diff_id;
	uint64_t entries;

	int r = layer_write(c->s, &writing, &layer, &diff_id, &entries);
	if (r >= 0)
		r = write_config(c, &diff_id, &config);
	if (r >= 0)
		r = write_manifest(c, &config, &layer, ret);
	return r < 0 ? r : store_tag(c->s, c->options->name, ret);
}

int image_commit(const struct store *s, const char *container, const struct container_uses *uses,
	const struct commit_options *options, struct descriptor *ret)
{
	_cleanup_arena_ struct arena a = {0};
	struct committing c = {
		.s = s, .arena = &a, .options = options, .changes = {.upper = -EBADF}};
	int r = read_base(&c, uses);

	if (r >= 0)
		r = container_changes_open(s, &a, container, uses, &c.changes);
	if (r >= 0)
		r = commit(&c, ret);
	fd_close(&c.changes.upper);
	return r < 0 ? err_ctx(r, "commit %.200s", container) : 0;
}
