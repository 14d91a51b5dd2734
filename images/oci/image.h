/* SPDX-License-Identifier: Apache-2.0 */
/* An image of the store: found by name, read, unpacked. */
#pragma once
#include "images/oci/layer.h"
#include "images/oci/store.h"

struct image {
	const char *name;           /* its tag, or NULL if it was named by digest */
	struct descriptor tag;      /* what the tag says: an index, or the manifest */
	struct descriptor manifest; /* the manifest of the platform */
	struct document document;   /* its content */
	struct image_config config;
	const char *config_text; /* as it is in the store */
	size_t config_len;
};

/*
 * Finds an image: by its tag, by its tag without ":latest" or without "docker.io/library/",
 * "docker.io/" or "localhost/" in front, by the digest of its manifest, or by at least 8 digits
 * that the digest of its manifest or configuration begins with. platform NULL: this machine's; it
 * matters where the tag is an index. -ENOENT: there is none.
 */
int image_open(const struct store *s, struct arena *a, const char *name,
	const struct platform *platform, struct image *ret) must_check;

/* Finds only the tag: for what need not be an image of this platform, or whole. */
int image_find(const struct store *s, struct arena *a, const char *name, const char **ret_tag,
	struct descriptor *ret) must_check;

/* Reads the image whose tag, an index or a manifest, is img->tag. */
int image_read(const struct store *s, struct arena *a, const struct platform *platform,
	struct image *img) must_check;

struct unpack_progress {
	/* Before each layer, and then as struct layer's. */
	void (*layer)(void *data, size_t index, size_t count, const struct descriptor *d);
	void (*bytes)(void *data, uint64_t done);
	void *data;
};

/* Unpacks all layers, in turn, into the empty directory `root`. progress may be NULL. */
int image_unpack(const struct store *s, const struct image *img, int root,
	const struct tree_options *options, const struct unpack_progress *progress) must_check;
