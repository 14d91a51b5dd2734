/* SPDX-License-Identifier: Apache-2.0 */
/* What the files that import images share. */
#pragma once
#include "images/oci/import.h"

/* The image of that tag, or the only one where tag is NULL. */
int choose_tag(const struct document *index, const char *what, const char *tag,
	const struct descriptor **ret) must_check;

/* The name that the image gets: the user's, or else the source's. */
int need_name(const struct import_options *o, const char *found, const char **ret) must_check;
