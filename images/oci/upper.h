/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads the upper directory of an overlay mount, which holds what a container has changed. The
 * entries come in the order of their names. The container may be running and is hostile, so no name
 * is resolved through a symbolic link.
 */
#pragma once
#include <sys/stat.h>

#include "base/fd.h"

enum upper_kind {
	UPPER_ENTRY,   /* a new or changed file or directory */
	UPPER_REMOVED, /* a file or directory of a lower layer that is gone */
	/*
	 * a directory none of whose lower names are left; follows the UPPER_ENTRY of this directory
	 */
	UPPER_OPAQUE,
};

struct upper_entry {
	enum upper_kind kind;
	/* path from the container's root, without a slash in front; "": the root */
	const char *path;
	int parent; /* descriptor of the directory that contains the file or directory `name` */
	const char *name; /* last component of the path; "." for the root */
	struct stat st;   /* status of the file; not set for UPPER_REMOVED */
};

struct upper_options {
	int upper; /* descriptor of the upper directory */
	/*
	 * Returns whether an empty file or directory is left out, because the runtime made it as a
	 * mount point. May be NULL.
	 */
	bool (*is_mount_point)(void *data, const char *path);
	/* Called with each entry, by one thread at a time. */
	int (*entry)(void *data, const struct upper_entry *e);
	void *data;
};

/* Calls entry() for each entry. Stops at the first error that entry() returns. */
int upper_walk(const struct upper_options *o) must_check;
