/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares two trees, and lists the differences in docker's words. The trees belong to images and
 * containers, which are not trusted, so no symbolic link is followed.
 */
#pragma once
#include "base/arena.h"
#include "base/fd.h"

enum change_kind {
	CHANGE_ADDED = 'A',
	CHANGE_CHANGED = 'C',
	CHANGE_DELETED = 'D',
};

struct change {
	enum change_kind kind;
	const char *path; /* path that begins with a slash */
};

struct change_list {
	struct change *v;
	size_t n, cap;
	struct arena arena; /* memory in which the paths of the changes are */
};

int change_add(struct change_list *l, enum change_kind kind, const char *path) must_check;
void change_list_release(struct change_list *l);
#define _cleanup_changes_ __attribute__((cleanup(change_list_release), unused))

/*
 * Adds the names that only one of the trees `from` and `to` has, and those that differ, a directory
 * before what is in it. A directory counts as changed if something in it has changed, as in docker.
 * Of a directory that is gone only the directory itself is listed. A file counts as changed if its
 * type, owner, mode, time, extended attributes or data differ.
 *
 * Both trees are views of the same store's layers (chain_open_view()), so two files with the same
 * inode have the same data.
 */
int tree_diff(int from, int to, struct change_list *ret) must_check;
