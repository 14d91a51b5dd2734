/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies images from the formats of other tools into the store:
 *	oci:DIR[:TAG]              an OCI image layout
 *	dir:DIR                    skopeo's format: manifest.json, and blobs named by their digits
 *	oci-archive:FILE[:TAG]     a layout in a tar, which may be compressed
 *	docker-archive:FILE[:REF]  the format that `docker save` and `podman save` write
 *
 * FILE "-" is standard input. The `urls` of a descriptor are never followed.
 */
#pragma once
#include "images/oci/image.h"

struct copy_events {
	/*
	 * Called before each blob; `present` says that the store has the blob already. May be NULL.
	 */
	void (*blob)(void *data, const struct descriptor *d, bool present);
	void *data;
};

struct import_options {
	const char *name; /* the tag that the image gets; NULL: the name in the source */
	/* the platform that is chosen from an index; NULL: this machine's platform */
	const struct platform *platform;
	/* whether the whole index is imported, with every platform that the source has */
	bool all;
	struct copy_events events;
};

struct imported {
	const char *name; /* a tag that the import has set */
	struct digest digest;
};

struct import_result {
	struct imported *v; /* array in the arena */
	size_t n, cap;
};

int image_import(const struct store *s, struct arena *a, const char *source,
	const struct import_options *options, struct import_result *ret) must_check;

/*
 * Imports all images of an archive, which may have the form of oci-archive or of docker-archive, or
 * both. The images keep their names. `path` is "-" for standard input.
 */
int image_load(const struct store *s, struct arena *a, const char *path,
	const struct import_options *options, struct import_result *ret) must_check;

/*
 * The source of the blobs that are copied. open() returns -ENOENT if the source does not have the
 * blob.
 */
struct blob_source {
	int (*open)(void *data, const struct digest *d);
	void *data;
	const char *what; /* name of the source, which error messages use */
};

/*
 * Splits a text "PATH[:REFERENCE]" at the first colon. Both parts live in the arena; *ret_reference
 * is NULL if the text has no colon.
 */
int split_path(struct arena *a, const char *text, const char **ret_path, const char **ret_reference)
	must_check;

/* Makes a tag that leads to the image that d describes, and adds the tag to *ret. */
int import_tag(const struct store *s, struct arena *a, const char *name, const struct descriptor *d,
	struct import_result *ret) must_check;

int import_oci_archive(const struct store *s, struct arena *a, const char *text,
	const struct import_options *options, struct import_result *ret) must_check;
int import_docker_archive(const struct store *s, struct arena *a, const char *text,
	const struct import_options *options, struct import_result *ret) must_check;
