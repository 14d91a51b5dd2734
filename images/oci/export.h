/* SPDX-License-Identifier: Apache-2.0 */
/* Copies an image out of the store, to the forms that import.h reads. */
#pragma once
#include "images/oci/image.h"

/*
 * target: "oci:DIR[:TAG]", "oci-archive:FILE[:TAG]", "docker-archive:FILE[:REF]" or "dir:DIR";
 * FILE "-" is standard output. Without TAG or REF the image keeps its name. An existing layout
 * gets the image beside those that it has. The last two are for one platform, this machine's.
 */
int image_export(const struct store *s, struct arena *a, const char *name, const char *target)
	must_check;
