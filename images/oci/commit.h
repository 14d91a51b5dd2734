/* SPDX-License-Identifier: Apache-2.0 */
/* Makes an image of a container: the image that the container came from, and a layer on top. */
#pragma once
#include "images/oci/container_dir.h"
#include "images/oci/image.h"
#include "images/oci/layer_write.h"

/* What a container has changed. */
struct container_changes {
	int upper;           /* descriptor of its upper directory, which the caller closes */
	struct json *config; /* its config.json, in the arena */
};

/* -EOPNOTSUPP: the container has no upper directory. */
int container_changes_open(const struct store *s, struct arena *a, const char *name,
	const struct container_uses *uses, struct container_changes *ret) must_check;
/* Returns whether the runtime mounted something on the path, which has no slash in front. */
bool container_is_mount_point(const struct container_changes *c, const char *path);

struct commit_options {
	const char *name;                 /* the new image's tag */
	const char *author;               /* NULL: the image's */
	const char *message, *created_by; /* of the new layer's history; may be NULL */
	/* changes of the configuration, written as in a Dockerfile: "CMD [\"sh\"]" */
	const char *const *changes;
	size_t nchanges;
	enum layer_compression compression;
	/* seconds since 1970, which the image says as its time */
	int64_t created;
	void (*warn)(void *data, const char *text); /* as in struct layer_writing */
};

/*
 * Commits the container of that name, whose uses were read by container_dir_read(). If it is
 * running, what it writes meanwhile may be in the image or not. *ret is the new manifest.
 */
int image_commit(const struct store *s, const char *container, const struct container_uses *uses,
	const struct commit_options *options, struct descriptor *ret) must_check;

/* Everything from which commit_config_write() makes the new configuration. */
struct commit_config {
	const struct json *old;
	const struct digest *diff_id;
	const struct commit_options *options;
	const char *created; /* RFC 3339 */
	struct arena *arena;
};
/* commit_config.c: writes the configuration with the new layer and the changes. */
int commit_config_write(struct json_out *o, const struct commit_config *c) must_check;
