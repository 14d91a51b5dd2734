/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the tree writer share. */
#pragma once
#include "images/oci/tree.h"

enum tree_warning {
	TREE_WARN_DEVICE,
	TREE_WARN_WHITEOUT_DEVICE,
	TREE_WARN_XATTR,
	TREE_WARN_OVERLAY_XATTR,
};

/* Warns once of each kind and layer, with the first name that it is about. */
void tree_warn(struct tree *t, enum tree_warning kind, const char *name, const char *why);

/*
 * The names that this layer wrote, as pairs of a directory's inode and a name. A whiteout or an
 * opaque mark hides only the names of lower layers, so names in this set are kept. Each pair is
 * stored as a hash of 64 bits under a random key.
 */
struct seen;
int seen_new(struct seen **ret) must_check;
int seen_add(struct seen *s, uint64_t dir, const char *name) must_check;
bool seen_has(const struct seen *s, uint64_t dir, const char *name);
bool seen_is_empty(const struct seen *s);
void seen_free(struct seen *s);

/*
 * Times of directories that entries changed, to be put back; the last one noted of an inode
 * counts.
 */
struct dir_times;
int dir_times_new(struct dir_times **ret) must_check;
/* first: only if nothing was noted of this directory */
int dir_times_note(struct dir_times *d, const char *path, const struct stat *st,
	const struct timespec *mtime, bool first) must_check;
int dir_times_apply(struct dir_times *d, int root) must_check;
void dir_times_free(struct dir_times *d);

/* An object that gets its properties: by descriptor, or by a parent's descriptor and a name. */
struct object {
	int fd;     /* >= 0, unless it is a link or a device */
	int parent; /* used where fd < 0 */
	const char *name;
};

/* Owner, mode, extended attributes and time, in the order in which none undoes another. */
int object_set(struct tree *t, const struct object *o, const struct tar_entry *e) must_check;
int object_set_times(const struct object *o, const struct tar_entry *e) must_check;

/*
 * Removes name from the directory dir, with all beneath it. keep: but for what this layer wrote
 * (NULL: nothing stays).
 */
int tree_remove(int dir, const char *name, const struct seen *keep) must_check;
/* The same with all that is in the directory. */
int tree_clear(int dir, const struct seen *keep) must_check;
