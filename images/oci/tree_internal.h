/* SPDX-License-Identifier: Apache-2.0 */
/* Declares what the files share that write a layer's entries into a directory tree. */
#pragma once
#include "images/oci/tree.h"

enum tree_warning {
	TREE_WARN_DEVICE,
	TREE_WARN_WHITEOUT_DEVICE,
	TREE_WARN_XATTR,
	TREE_WARN_OVERLAY_XATTR,
	TREE_WARN_OWNER,
};

/*
 * Warns about a kind of property once in each layer, with the name of the first file that has it.
 */
void tree_warn(struct tree *t, enum tree_warning kind, const char *name, const char *why);

/*
 * The names that the present layer has written, as pairs of a directory's inode and a name. A
 * whiteout or an opaque mark hides only names of lower layers, so the names in this set are kept.
 * The set holds each pair as a hash of 64 bits with a random key.
 */
struct seen;
int seen_new(struct seen **ret) must_check;
int seen_add(struct seen *s, uint64_t dir, const char *name) must_check;
void seen_free(struct seen *s);

/*
 * The functions of links.c: if a layer links a new name, dir/name, to a file of a lower layer, they
 * make sure that all other names of that file lead to the same inode. The caller calls links_find()
 * before it makes the link, and links_keep() after that.
 */
int links_find(struct tree *t, const struct stat *target) must_check;
int links_keep(struct tree *t, const struct stat *target, int dir, const char *name) must_check;
void links_free(struct links *l);

/*
 * Records the times of a directory before an entry is made in it, so that the times can be restored
 * afterwards.
 */
int tree_note_parent(struct tree *t, int fd, const char *path) must_check;

/*
 * Times of directories that are restored at the end of a layer. If the times of a directory are
 * recorded twice, the last record counts.
 */
struct dir_times;
int dir_times_new(struct dir_times **ret) must_check;
/*
 * Records the times of a directory. If `first` is set and the times are recorded already, does
 * nothing.
 */
int dir_times_note(struct dir_times *d, const char *path, const struct stat *st,
	const struct timespec *mtime, bool first) must_check;
int dir_times_apply(struct dir_times *d, int root) must_check;
void dir_times_free(struct dir_times *d);

/*
 * A file in the tree whose properties are being set. object_set() reaches the file by its
 * descriptor, or by its name in its parent directory.
 */
struct object {
	int fd;     /* descriptor of the file; negative for a link or a device */
	int parent; /* descriptor of the parent directory, which is used if fd is negative */
	const char *name;
};

/*
 * Sets owner, mode, extended attributes and times, in an order in which no change undoes another.
 */
int object_set(struct tree *t, const struct object *o, const struct tar_entry *e) must_check;

/*
 * Removes `name` and all that is in it from the directory `dir`. Keeps the names in `keep`, which
 * the present layer wrote; NULL: keeps nothing.
 */
int tree_remove(int dir, const char *name, const struct seen *keep) must_check;
/* Removes the contents of the directory as tree_remove() does, but not the directory itself. */
int tree_clear(int dir, const struct seen *keep) must_check;
