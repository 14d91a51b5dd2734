/* SPDX-License-Identifier: Apache-2.0 */
/* Counts what the store takes on the disk. */
#pragma once
#include "images/oci/store.h"

enum usage_kind {
	USAGE_BLOBS,
	USAGE_PARTIAL, /* remains of interrupted downloads, and lock files */
	USAGE_LAYERS,
	USAGE_DISKS, /* EROFS images of layers */
	USAGE_CONTAINERS,
	USAGE_VOLUMES,
	USAGE_KINDS
};

struct usage {
	uint64_t count; /* number of blobs, layers ... */
	uint64_t bytes; /* what they take on the disk */
};

/*
 * Counts the files of each kind. Files that another process removes meanwhile, and directories that
 * this process may not read, are not counted.
 */
int store_usage(const struct store *s, struct usage ret[USAGE_KINDS]) must_check;
