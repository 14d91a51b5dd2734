/* SPDX-License-Identifier: Apache-2.0 */
/* Finds an image in the store, reads its documents and unpacks its layers. */
#pragma once
#include "images/oci/layer.h"
#include "images/oci/store.h"

/* Where image_apply_layer() reads the bytes of layers that another process is still downloading. */
struct layer_source {
	/* Opens the file of a layer, which may have only a part of the layer's bytes yet. */
	int (*open)(void *data, const struct descriptor *d);
	/* waits for more bytes of the file, as the member `more` of struct file_source does */
	int (*more)(void *data);
	void *data;
};

struct image {
	const char *name; /* the image's tag; NULL: the image was named by digest */
	/* descriptor of the index or the manifest to which the tag leads */
	struct descriptor tag;
	struct descriptor manifest; /* descriptor of the manifest for the wanted platform */
	struct document document;   /* the parsed manifest */
	struct image_config config;
	/* where the bytes of the layers come from; NULL: from the blobs of the store */
	const struct layer_source *source;
	const char *config_text; /* text of the configuration as it is in the store */
	size_t config_len;
};

/*
 * Finds an image and reads its documents. `name` is the image's tag; or the tag without ":latest"
 * at the end or without "docker.io/library/", "docker.io/" or "localhost/" in front; or the digest
 * of the manifest; or at least the first 8 digits of the digest of the manifest or of the
 * configuration. `platform` selects from an index; NULL means this machine's platform. Returns
 * -ENOENT if there is no such image.
 */
int image_open(const struct store *s, struct arena *a, const char *name,
	const struct platform *platform, struct image *ret) must_check;

/*
 * Finds only an image's tag and descriptor. The image need not be complete or have a manifest for
 * this platform.
 */
int image_find(const struct store *s, struct arena *a, const char *name, const char **ret_tag,
	struct descriptor *ret) must_check;

/*
 * Reads the documents of the image to which the descriptor img->tag leads. img->tag describes an
 * index or a manifest.
 */
int image_read(const struct store *s, struct arena *a, const struct platform *platform,
	struct image *img) must_check;

/* The two parts of image_read(): one reads the manifest, and the other one the configuration. */
int image_read_manifest(const struct store *s, struct arena *a, const struct platform *platform,
	struct image *img) must_check;
int image_read_config(const struct store *s, struct arena *a, struct image *img) must_check;

struct unpack_progress {
	/*
	 * Called before each layer is unpacked. bytes() is then called, while the layer is
	 * unpacked, as the member `progress` of struct layer is.
	 */
	void (*layer)(void *data, size_t index, size_t count, const struct descriptor *d);
	void (*bytes)(void *data, uint64_t done);
	void *data;
};

/*
 * Checks that the manifest and the configuration agree on the layers, and that this program can
 * unpack each layer.
 */
int image_check_layers(const struct image *img) must_check;

/* Applies layer `index`, counted from 0, to the tree below root. `progress` may be NULL. */
int image_apply_layer(const struct store *s, const struct image *img, size_t index, int root,
	const struct tree_options *options, const struct unpack_progress *progress) must_check;

/* Unpacks all layers into the empty directory `root`, the lowest first. `progress` may be NULL. */
int image_unpack(const struct store *s, const struct image *img, int root,
	const struct tree_options *options, const struct unpack_progress *progress) must_check;
