/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Declares what archive.c and archive_docker.c share: the files of an archive that is being
 * imported.
 */
#pragma once
#include "images/oci/import_internal.h"

/* A file of an archive: either a file that is a blob of the store now, or a link. */
struct member {
	const char *path; /* path in the archive, without "./" in front */
	/* if the member is a link, the path to which it leads; NULL: the member is a file */
	const char *link;
	struct digest digest;
	uint64_t size;
};

struct archive {
	const struct store *s;
	struct arena *a;
	struct member *v;
	size_t n, cap;
	struct strbuf index, manifest; /* contents of index.json and manifest.json */
};

/*
 * Finds the file that the path names. If the path names a link, finds the file to which the link
 * leads.
 */
int archive_find(const struct archive *ar, const char *path, const struct member **ret) must_check;

/*
 * Imports the images that the archive's manifest.json lists. `ref` is the name of the only image
 * that is wanted; NULL: all images are wanted.
 */
int archive_import_docker(const struct archive *ar, const char *ref, const struct import_options *o,
	struct import_result *ret) must_check;
