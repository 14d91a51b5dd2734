/* SPDX-License-Identifier: Apache-2.0 */
/* Exports images from the store, in the formats that import.h can read. */
#pragma once
#include "images/oci/image.h"

/*
 * Exports the image `name` to `target`: "oci:DIR[:TAG]", "oci-archive:FILE[:TAG]",
 * "docker-archive:FILE[:REF]" or "dir:DIR". FILE "-" is standard output. Without TAG or REF the
 * image keeps its name. An existing layout keeps its other images. docker-archive and dir hold only
 * the image for this machine's platform.
 */
int image_export(const struct store *s, struct arena *a, const char *name, const char *target)
	must_check;

enum save_form { SAVE_DOCKER_ARCHIVE, SAVE_OCI_ARCHIVE };

struct image_saving {
	enum save_form form;
	const char *path;         /* path of the archive; "-": standard output */
	const char *const *names; /* names of images in the store */
	size_t nnames;
};

/*
 * Writes several images into one archive. The images keep their names, and blobs that they share
 * are there once. No file is made if one of the images is not in the store.
 */
int image_save(const struct store *s, struct arena *a, const struct image_saving *saving)
	must_check;
