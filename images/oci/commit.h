/* SPDX-License-Identifier: Apache-2.0 */
/* Makes an image of a container: the image that the container came from, with one layer on top. */
#pragma once
#include "images/oci/container_dir.h"
#include "images/oci/image.h"
#include "images/oci/layer_write.h"

/* What a container has changed. */
struct container_changes {
	/* descriptor of the container's upper directory, which the caller closes */
	int upper;
	struct json *config; /* the container's config.json, in the arena */
};

/*
 * Reads what the container `name` has changed. Returns -EOPNOTSUPP if the container has no upper
 * directory.
 */
int container_changes_open(const struct store *s, struct arena *a, const char *name,
	const struct container_uses *uses, struct container_changes *ret) must_check;
/* Returns whether the runtime mounted something on the path, which has no slash in front. */
bool container_is_mount_point(const struct container_changes *c, const char *path);

struct commit_options {
	const char *name; /* the new image's tag */
	/* author of the new image; NULL: the author of the base image */
	const char *author;
	/* texts for the new layer in the image's history; may be NULL */
	const char *message, *created_by;
	/* changes of the configuration, written as in a Dockerfile: "CMD [\"sh\"]" */
	const char *const *changes;
	size_t nchanges;
	enum layer_compression compression;
	/* the time that the image gives as its creation time, in seconds since 1970 */
	int64_t created;
	/*
	 * called with a text for each file that a layer cannot hold, such as a socket; may be NULL
	 */
	void (*warn)(void *data, const char *text);
};

/*
 * Commits the container with the name `container`, whose `uses` container_dir_read() has read. If
 * the container is running, the image may or may not have what the container writes meanwhile. *ret
 * describes the new manifest.
 */
int image_commit(const struct store *s, const char *container, const struct container_uses *uses,
	const struct commit_options *options, struct descriptor *ret) must_check;

/* Everything from which commit_config_write() makes the new configuration. */
struct commit_config {
	const struct json *old;
	const struct digest *diff_id;
	const struct commit_options *options;
	const char *created; /* creation time of the image in the form of RFC 3339 */
	struct arena *arena;
};
/* Writes the new image's configuration, with the new layer and the changes (commit_config.c). */
int commit_config_write(struct json_out *o, const struct commit_config *c) must_check;
