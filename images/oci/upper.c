/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/upper.h"

#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "base/dir.h"

#define DEPTH_MAX 1000
#define NAMES_MAX 4000000u /* largest number of names in one directory */

struct names {
	char **v;
	size_t n, cap;
};

static void release_names(struct names *l)
{
	for (size_t i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
}

static int add_name(struct names *l, const char *name)
{
	if (l->n == NAMES_MAX)
		return err_set(E2BIG, "a directory with more than %u names", NAMES_MAX);
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 64;
		char **v = reallocarray(l->v, cap, sizeof(*v));
		if (!v)
			return err_set(ENOMEM, "out of memory");
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n] = strdup(name);
	return l->v[l->n++] ? 0 : err_set(ENOMEM, "out of memory");
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int read_names(int dir, const char *path, struct names *ret)
{
	DIR *d = dir_take_fd(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *e;
	int r = 0;

	if (!d)
		return err_sys("read the directory /%s", path);
	while (r >= 0 && (e = readdir(d)))
		if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
			r = add_name(ret, e->d_name);
	closedir(d);
	if (r >= 0 && ret->n)
		qsort(ret->v, ret->n, sizeof(*ret->v), compare);
	return r;
}

/*
 * Returns whether a directory of the container hides the lower directories of the same path, which
 * is called opaque. The kernel marks an opaque directory by an attribute trusted.* for root, and by
 * user.* in a user namespace.
 */
static bool is_opaque(int dir)
{
	static const char *const marks[] = {"trusted.overlay.opaque", "user.overlay.opaque"};
	char value;

	for (size_t i = 0; i < ARRAY_SIZE(marks); i++)
		if (fgetxattr(dir, marks[i], &value, 1) == 1 && value == 'y')
			return true;
	return false;
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == makedev(0, 0);
}

struct walk {
	const struct upper_options *o;
	unsigned depth;
};

static int walk_dir(struct walk *w, int dir, const char *path);

/* Returns whether the directory is empty. */
static bool is_empty(int dir, const char *path)
{
	struct names l = {0};
	bool empty = read_names(dir, path, &l) >= 0 && l.n == 0;

	release_names(&l);
	err_clear();
	return empty;
}

static int give(struct walk *w, enum upper_kind kind, const struct upper_entry *e)
{
	struct upper_entry copy = *e;

	copy.kind = kind;
	return w->o->entry(w->o->data, &copy);
}

static int visit_dir(struct walk *w, struct upper_entry *e)
{
	_cleanup_fd_ int dir =
		openat(e->parent, e->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool (*skip)(void *, const char *) = w->o->is_mount_point;

	if (dir < 0)
		return err_sys("open /%s", e->path);
	if (*e->path && skip && skip(w->o->data, e->path) && is_empty(dir, e->path))
		return 0;
	int r = give(w, UPPER_ENTRY, e);
	if (r >= 0 && is_opaque(dir))
		r = give(w, UPPER_OPAQUE, e);
	return r < 0 ? r : walk_dir(w, dir, e->path);
}

static int visit(struct walk *w, int dir, const char *path, const char *name)
{
	struct upper_entry e = {.path = path, .parent = dir, .name = name};

	if (fstatat(dir, name, &e.st, AT_SYMLINK_NOFOLLOW) < 0)
		/* A running container may have removed the name since the directory was read. */
		return errno == ENOENT ? 0 : err_sys("look at /%s", path);
	if (is_whiteout(&e.st))
		return give(w, UPPER_REMOVED, &e);
	if (S_ISDIR(e.st.st_mode))
		return visit_dir(w, &e);
	if (S_ISREG(e.st.st_mode) && e.st.st_size == 0 && w->o->is_mount_point &&
		w->o->is_mount_point(w->o->data, path))
		return 0;
	return give(w, UPPER_ENTRY, &e);
}

static int walk_dir(struct walk *w, int dir, const char *path)
{
	struct names l = {0};
	char below[PATH_MAX];

	if (w->depth == DEPTH_MAX)
		return err_set(ELOOP, "/%.100s...: directories deeper than %d", path, DEPTH_MAX);
	w->depth++;
	int r = read_names(dir, path, &l);
	for (size_t i = 0; i < l.n && r >= 0; i++) {
		int n = snprintf(below, sizeof(below), "%s%s%s", path, *path ? "/" : "", l.v[i]);
		r = n < (int)sizeof(below)
			    ? visit(w, dir, below, l.v[i])
			    : err_set(ENAMETOOLONG, "/%.100s...: a path of %d bytes", path, n);
	}
	release_names(&l);
	w->depth--;
	return r;
}

int upper_walk(const struct upper_options *o)
{
	struct walk w = {.o = o};
	struct upper_entry root = {.path = "", .parent = o->upper, .name = "."};

	if (fstat(o->upper, &root.st) < 0)
		return err_sys("look at the upper directory");
	return visit_dir(&w, &root);
}
