/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copies an image from other tools' forms into the store, and out again:
 *	oci:DIR[:TAG]              an OCI image layout
 *	dir:DIR                    skopeo's: manifest.json, and blobs by their digits
 *	oci-archive:FILE[:TAG]     a layout in a tar, which may be compressed
 *	docker-archive:FILE[:REF]  what `docker save` and `podman save` write
 * FILE "-" is standard input or output. `urls` of a descriptor are never followed.
 */
#pragma once
#include "images/oci/image.h"

#define IMPORT_NAMES_MAX 64u

struct copy_events {
	/* Before each blob; `present`: it was in the store already. May be NULL. */
	void (*blob)(void *data, const struct descriptor *d, bool present);
	void *data;
};

struct import_options {
	const char *name;                /* the tag it gets; NULL: as the source names it */
	const struct platform *platform; /* chosen from an index; NULL: this machine's */
	bool all;                        /* the whole index, with every platform that is there */
	struct copy_events events;
};

struct import_result {
	const char *names[IMPORT_NAMES_MAX]; /* the tags that were set; in the arena */
	struct digest digests[IMPORT_NAMES_MAX];
	size_t n;
};

int image_import(const struct store *s, struct arena *a, const char *source,
	const struct import_options *options, struct import_result *ret) must_check;

/* Where the blobs of a copy come from. -ENOENT: it does not have this one. */
struct blob_source {
	int (*open)(void *data, const struct digest *d);
	void *data;
	const char *what; /* for messages */
};

/*
 * Copies what d leads to into the store: a manifest's configuration and layers, or of an index
 * those of one platform (*ret is then that manifest) or of all that are there (*ret is the index).
 */
int copy_image(const struct store *s, const struct blob_source *from, const struct descriptor *d,
	const struct import_options *options, struct descriptor *ret) must_check;

/*
 * Splits "PATH[:REFERENCE]" at the first colon. Both live in the arena; *ret_reference may be
 * NULL.
 */
int split_path(struct arena *a, const char *text, const char **ret_path, const char **ret_reference)
	must_check;

/* Adds a tag for what d describes, and notes it in the result. */
int import_tag(const struct store *s, struct arena *a, const char *name, const struct descriptor *d,
	struct import_result *ret) must_check;

int import_oci_archive(const struct store *s, struct arena *a, const char *text,
	const struct import_options *options, struct import_result *ret) must_check;
int import_docker_archive(const struct store *s, struct arena *a, const char *text,
	const struct import_options *options, struct import_result *ret) must_check;
