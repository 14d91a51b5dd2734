/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares what import.c, archive.c and archive_docker.c share: the import of the images that an
 * index.json lists.
 */
#pragma once
#include "images/oci/import.h"

/* An index.json of an image layout, and the source of the layout's blobs. */
struct index_source {
	const struct store *store;
	struct arena *arena;
	const struct blob_source *blobs;
	const struct strbuf *index;
	const char *tag; /* tag of the image to import; NULL: the index has only one image */
};

/*
 * Copies the image with the tag src->tag into the store, and makes a tag for the image in the
 * store.
 */
int import_from_index(const struct index_source *src, const struct import_options *o,
	struct import_result *ret) must_check;

/* Sets *ret to whether every image of the index has a name. */
int import_index_has_names(const struct index_source *src, bool *ret) must_check;

/* Copies all images of the index into the store, under their names. src->tag is not used. */
int import_whole_index(const struct index_source *src, const struct import_options *o,
	struct import_result *ret) must_check;

/*
 * Sets *ret to the name that the imported image gets: the name that the user gave, or else `found`,
 * the name in the source.
 */
int need_name(const struct import_options *o, const char *found, const char **ret) must_check;
