/* SPDX-License-Identifier: Apache-2.0 */
/* Exports an image from the store, in the formats that import.h can read. */
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
