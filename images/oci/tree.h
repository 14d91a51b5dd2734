/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Applies a layer's entries to the tree beneath a root directory (image-spec, layer.md): one tree,
 * as if all layers had been unpacked into it in turn.
 *
 * The entries are hostile, and the tree may hold what earlier entries of theirs made. No name of
 * theirs is ever resolved from this process's root or directory: parents by openat2(2) with
 * RESOLVE_IN_ROOT and RESOLVE_NO_MAGICLINKS from the root's descriptor, the last name by the calls
 * that do not follow links. The tree must not be changed by others meanwhile.
 *
 * Order of calls, for each layer: tree_begin(), tree_add() and tree_write() for each entry,
 * tree_end(). Not thread-safe: one thread a tree.
 */
#pragma once
#include "base/fd.h"
#include "images/oci/tar.h"

#define TREE_ENTRIES_MAX 10000000u /* of one layer */
#define TREE_DIRS_MAX 400000u      /* whose times must be put back at the end of a layer */

/* container ids from `inside` on are ids from `outside` on here; as in user_namespaces(7) */
struct id_range {
	uint32_t inside, outside, count;
};

struct id_map {
	struct id_range v[64];
	size_t n; /* 0: ids stay as they are */
};

struct tree_options {
	struct id_map uids, gids;
	bool squash;        /* all files belong to the caller, who may not change owners */
	uint64_t max_bytes; /* of all files' data; 0: what is free on the file system */
	/* Called with each thing that is not kept ("device nodes", ...), and where. May be NULL. */
	void (*warn)(void *data, const char *text);
	void *data;
};

struct tree {
	int root; /* borrowed */
	const struct tree_options *options;
	/* the parent directory of the last entry, which is mostly that of the next one too */
	int parent;
	char *parent_path;
	struct seen *seen; /* what this layer wrote */
	struct dir_times *times;
	int file;            /* the file that is being written */
	uint64_t bytes_left; /* of max_bytes */
	uint64_t entries;
	unsigned warned; /* kinds of warnings that were given */
};

#define TREE_INIT \
	{ \
		.root = -EBADF, .parent = -EBADF, .file = -EBADF \
	}

int tree_begin(struct tree *t, int root, const struct tree_options *options) must_check;

/*
 * Applies one entry: makes the object with all its properties, or carries out a whiteout. 1: it is
 * a file whose data is expected by tree_write(); tree_close_file() comes after the last of it. 0:
 * done.
 */
int tree_add(struct tree *t, const struct tar_entry *e) must_check;
int tree_write(struct tree *t, const void *data, size_t len, uint64_t offset) must_check;
int tree_close_file(struct tree *t, const struct tar_entry *e) must_check;

/* Puts the directories' times back. */
int tree_end(struct tree *t) must_check;
void tree_release(struct tree *t);
#define _cleanup_tree_ __attribute__((cleanup(tree_release), unused))

/* Maps a container's id. -EOVERFLOW: the map does not have it. */
int id_map_get(const struct id_map *m, uint64_t inside, const char *what, uint32_t *ret) must_check;
