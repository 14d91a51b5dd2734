/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applies the entries of a layer to the tree in a root directory (image-spec, layer.md). All layers
 * of an image are applied to the same tree, the lowest first.
 *
 * Neither the entries nor the tree that earlier entries have made are trusted. So no name in a
 * layer is ever resolved from this process's root or working directory. Parent directories are
 * opened by openat2(2) with RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS from the root's descriptor,
 * and the last component is used only in calls that do not follow links. No other process may
 * change the tree meanwhile.
 *
 * Order of calls for each layer: tree_begin(), tree_add() and tree_write() for each entry,
 * tree_end(). Only one thread may use a tree.
 */
#pragma once
#include "base/fd.h"
#include "images/oci/tar.h"

#define TREE_ENTRIES_MAX 10000000u /* largest number of entries in one layer */
/* largest number of directories whose times must be restored at the end of a layer */
#define TREE_DIRS_MAX 400000u

/*
 * A range of a map of ids, as in user_namespaces(7): `count` ids of the container from `inside` on
 * are the ids of this process from `outside` on.
 */
struct id_range {
	uint32_t inside, outside, count;
};

struct id_map {
	struct id_range v[64];
	size_t n; /* number of ranges; 0: ids are not mapped */
};

struct tree_options {
	struct id_map uids, gids;
	/* the tree is an overlay mount, whose lower layers belong to the store */
	bool merged;
	/*
	 * whether the entries are those of an ordinary tar: no name is a whiteout, and no entry
	 * replaces a directory by something else
	 */
	bool plain;
	/* whether all files get the caller as owner */
	bool squash;
	/*
	 * why `squash` is set, as a part of a sentence for warnings; NULL: the user asked for it,
	 * so there is no warning
	 */
	const char *squash_reason;
	/* largest number of bytes of data in all files; 0: as much as the file system has free */
	uint64_t max_bytes;
	/*
	 * Called for each kind of property that is not kept, such as "device nodes", with the name
	 * of a file that has it. May be NULL.
	 */
	void (*warn)(void *data, const char *text);
	void *data;
};

struct tree {
	int root; /* descriptor of the root directory; the caller closes it */
	const struct tree_options *options;
	/*
	 * descriptor of the last entry's parent directory, which stays open because the next entry
	 * mostly has the same parent
	 */
	int parent;
	char *parent_path;
	struct seen *seen; /* names that the present layer has written */
	struct dir_times *times;
	/* hard links of lower layers; NULL: these links were not collected yet */
	struct links *links;
	int file;            /* descriptor of the file that is being written */
	uint64_t bytes_left; /* how many bytes of max_bytes may still be written */
	uint64_t entries;
	unsigned warned; /* a bit for each kind of warning that was given already */
};

#define TREE_INIT \
	{ \
		.root = -EBADF, .parent = -EBADF, .file = -EBADF \
	}

int tree_begin(struct tree *t, int root, const struct tree_options *options) must_check;

/*
 * Applies one entry: makes the file with all its properties, or carries out a whiteout. Returns 1
 * if the entry is a file whose data must follow by tree_write(), with a call of tree_close_file()
 * after the last data; returns 0 if the entry is complete.
 */
int tree_add(struct tree *t, const struct tar_entry *e) must_check;
int tree_write(struct tree *t, const void *data, size_t len, uint64_t offset) must_check;
int tree_close_file(struct tree *t, const struct tar_entry *e) must_check;

/* Completes the layer: restores the times of directories. */
int tree_end(struct tree *t) must_check;
void tree_release(struct tree *t);
#define _cleanup_tree_ __attribute__((cleanup(tree_release), unused))
