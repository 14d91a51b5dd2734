/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what import.c and archive.c share. */
#pragma once
#include "images/oci/import.h"

/*
 * Finds the image with this tag in an index. If `tag` is NULL, the index must have exactly one
 * image.
 */
int choose_tag(const struct document *index, const char *what, const char *tag,
	const struct descriptor **ret) must_check;

/*
 * Sets *ret to the name that the imported image gets: the one that the user gave, or else `found`,
 * the name in the source.
 */
int need_name(const struct import_options *o, const char *found, const char **ret) must_check;
