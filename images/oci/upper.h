/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the upper directory of an overlay mount, which holds what a container has changed, in the
 * order of names. The container may be running and is hostile, so no name is resolved through a
 * symbolic link.
 */
#pragma once
#include <sys/stat.h>

#include "base/fd.h"

enum upper_kind {
	UPPER_ENTRY,   /* a new or changed file or directory */
	UPPER_REMOVED, /* a lower file or directory that is gone */
	UPPER_OPAQUE,  /* a directory none of whose lower names are left; UPPER_ENTRY comes first */
};

struct upper_entry {
	enum upper_kind kind;
	const char *path; /* from the root, without a slash in front; "": the root */
	int parent;       /* descriptor of the directory that holds the name */
	const char *name; /* "." for the root */
	struct stat st;   /* not set for UPPER_REMOVED */
};

struct upper_options {
	int upper; /* descriptor of the upper directory */
	/*
	 * Returns whether an empty file or directory is left out, because the runtime made it to
	 * mount something there. May be NULL.
	 */
	bool (*is_mount_point)(void *data, const char *path);
	/* Called with each entry. May be called with no other thread changing *data. */
	int (*entry)(void *data, const struct upper_entry *e);
	void *data;
};

/* Stops at the first error of entry(). */
int upper_walk(const struct upper_options *o) must_check;
