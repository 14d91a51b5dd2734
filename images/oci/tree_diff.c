/* SPDX-License-Identifier: Apache-2.0 */
#include "images/oci/tree_diff.h"

#include <dirent.h>
#include <linux/limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>

/* how many levels of directories are compared; each level holds two descriptors open */
#define DEPTH_MAX 400
#define COMPARE_SIZE (64u << 10)

int change_add(struct change_list *l, enum change_kind kind, const char *path)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? l->cap * 2 : 256;
		struct change *v = reallocarray(l->v, cap, sizeof(*v));
		if (!v)
			return err_set(ENOMEM, "out of memory");
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n] = (struct change){kind, arena_printf(&l->arena, "/%s", path)};
	return l->v[l->n].path ? (l->n++, 0) : -ENOMEM;
}

void change_list_release(struct change_list *l)
{
	free(l->v);
	l->v = NULL;
	arena_release(&l->arena);
}

struct diff {
	struct change_list *list;
	unsigned depth;
	/*
	 * buffer of 2 * COMPARE_SIZE bytes, for two blocks of data or the values of two attributes
	 */
	char *buf;
	char path[PATH_MAX];
};

/* The sorted names of a directory. */
struct names {
	struct dirent **v;
	int n;
};

static void release_names(struct names *l)
{
	for (int i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct names){0};
}

static int no_dots(const struct dirent *e)
{
	return !streq(e->d_name, ".") && !streq(e->d_name, "..");
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/*
 * Reads the names in a directory of one of the trees. A negative descriptor stands for a directory
 * without names.
 */
static int read_names(const struct diff *d, int dir, struct names *ret)
{
	*ret = (struct names){0};
	if (dir < 0)
		return 0;
	int n = scandirat(dir, ".", &ret->v, no_dots, by_bytes);
	if (n < 0)
		return err_sys("read the directory /%s", d->path);
	ret->n = n;
	return 0;
}

/*
 * Returns whether an attribute is compared. Attributes of overlayfs are left out, because they are
 * marks of the store, and SELinux labels, because the host gives them.
 */
static bool is_compared(const char *name)
{
	return !strstr(name, ".overlay.") && !streq(name, "security.selinux");
}

/*
 * Returns how many attributes of the file are missing in the other file, or have another value
 * there.
 */
static int xattrs_that_differ(struct diff *d, const char *file, const char *other)
{
	_cleanup_free_ char *names = malloc(XATTR_LIST_MAX);
	char *mine = d->buf, *theirs = d->buf + XATTR_SIZE_MAX;
	int differ = 0;

	if (!names)
		return err_set(ENOMEM, "out of memory");
	ssize_t len = llistxattr(file, names, XATTR_LIST_MAX);
	if (len < 0)
		return errno == EOPNOTSUPP
			       ? 0
			       : err_sys("read the extended attributes of /%s", d->path);
	for (const char *p = names; p < names + len; p += strlen(p) + 1) {
		if (!is_compared(p))
			continue;
		ssize_t n = lgetxattr(file, p, mine, XATTR_SIZE_MAX);
		ssize_t m = lgetxattr(other, p, theirs, XATTR_SIZE_MAX);
		if (n != m || (n > 0 && memcmp(mine, theirs, (size_t)n) != 0))
			differ++;
	}
	return differ;
}

/* Returns 1 if both files have the same extended attributes. */
static int same_xattrs(struct diff *d, int from, int to, const char *name)
{
	char mine[PATH_MAX], theirs[PATH_MAX];

	/*
	 * The paths lead through the directories' descriptors in /proc, because Linux 5.14 has no
	 * system call for attributes by directory and name.
	 */
	int n = snprintf(mine, sizeof(mine), "/proc/self/fd/%d/%s", from, name);
	snprintf(theirs, sizeof(theirs), "/proc/self/fd/%d/%s", to, name);
	if (n >= (int)sizeof(mine))
		return err_set(ENAMETOOLONG, "/%s: the name is too long", d->path);
	int r = xattrs_that_differ(d, mine, theirs);
	if (r == 0)
		r = xattrs_that_differ(d, theirs, mine);
	return r < 0 ? r : r == 0;
}

static ssize_t read_block(int fd, char *buf)
{
	size_t n = 0;

	while (n < COMPARE_SIZE) {
		ssize_t got = read(fd, buf + n, COMPARE_SIZE - n);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	return (ssize_t)n;
}

/* Returns 1 if both files hold the same bytes. */
static int same_data(struct diff *d, int from, int to, const char *name)
{
	_cleanup_fd_ int mine = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	_cleanup_fd_ int theirs = openat(to, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);

	if (mine < 0 || theirs < 0)
		return err_sys("open /%s", d->path);
	for (;;) {
		ssize_t n = read_block(mine, d->buf);
		ssize_t m = read_block(theirs, d->buf + COMPARE_SIZE);
		if (n < 0 || m < 0)
			return err_set(EIO, "read /%s", d->path);
		if (n != m || memcmp(d->buf, d->buf + COMPARE_SIZE, (size_t)n) != 0)
			return 0;
		if (n == 0)
			return 1;
	}
}

static int same_link(struct diff *d, int from, int to, const char *name)
{
	ssize_t n = readlinkat(from, name, d->buf, PATH_MAX);
	ssize_t m = readlinkat(to, name, d->buf + PATH_MAX, PATH_MAX);

	if (n < 0 || m < 0)
		return err_sys("read the link /%s", d->path);
	return n == m && memcmp(d->buf, d->buf + PATH_MAX, (size_t)n) == 0;
}

static bool same_status(const struct stat *a, const struct stat *b)
{
	if (a->st_mode != b->st_mode || a->st_uid != b->st_uid || a->st_gid != b->st_gid ||
		a->st_rdev != b->st_rdev)
		return false;
	/*
	 * Size and time of a directory are not compared, because they change with the names in it,
	 * which are compared themselves.
	 */
	if (S_ISDIR(a->st_mode))
		return true;
	return a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/*
 * A name that one of the two trees has, or both have. If a tree lacks the name, the mode in the
 * tree's status is 0.
 */
struct both {
	/* descriptors of the two directories, one in each tree, in which the name is looked up */
	int from, to;
	const char *name;
	struct stat from_st, to_st;
};

/*
 * Returns 1 if the name is the same in both trees. The contents of a directory are not compared
 * here.
 */
static int same(struct diff *d, const struct both *b)
{
	if (!same_status(&b->from_st, &b->to_st))
		return 0;
	int r = same_xattrs(d, b->from, b->to, b->name);
	if (r <= 0 || b->from_st.st_ino == b->to_st.st_ino)
		return r;
	if (S_ISREG(b->to_st.st_mode))
		return same_data(d, b->from, b->to, b->name);
	return S_ISLNK(b->to_st.st_mode) ? same_link(d, b->from, b->to, b->name) : 1;
}

static int diff_dirs(struct diff *d, int from, int to);

/* Compares the contents of a directory that is in `to` and may be in `from`. */
static int descend(struct diff *d, const struct both *b)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	_cleanup_fd_ int from =
		S_ISDIR(b->from_st.st_mode) ? openat(b->from, b->name, flags) : -EBADF;
	_cleanup_fd_ int to = openat(b->to, b->name, flags);

	if (to < 0 || (from < 0 && from != -EBADF))
		return err_sys("open the directory /%s", d->path);
	return diff_dirs(d, from, to);
}

static int diff_name(struct diff *d, const struct both *b)
{
	struct change_list *l = d->list;
	size_t before = l->n;

	if (!b->to_st.st_mode)
		return change_add(l, CHANGE_DELETED, d->path);
	int r = b->from_st.st_mode ? same(d, b) : 0;
	if (r < 0)
		return r;
	bool changed = r == 0;
	r = change_add(l, b->from_st.st_mode ? CHANGE_CHANGED : CHANGE_ADDED, d->path);
	if (r >= 0 && S_ISDIR(b->to_st.st_mode))
		r = descend(d, b);
	/*
	 * If neither the directory itself nor anything in it has changed, its entry is removed from
	 * the list of changes. The entry was added before that was known, because a directory
	 * precedes its contents in the list.
	 */
	if (r >= 0 && !changed && l->n == before + 1)
		l->n = before;
	return r;
}

static int look(int dir, const char *name, struct stat *ret)
{
	*ret = (struct stat){0};
	return fstatat(dir, name, ret, AT_SYMLINK_NOFOLLOW) < 0 ? err_sys("look at %s", name) : 0;
}

static int diff_names(
	struct diff *d, int from, int to, const struct names *old, const struct names *new)
{
	size_t len = strlen(d->path);
	int i = 0, k = 0, r = 0;

	while (r >= 0 && (i < old->n || k < new->n)) {
		int order = i == old->n   ? 1
			    : k == new->n ? -1
					  : strcmp(old->v[i]->d_name, new->v[k]->d_name);
		struct both b = {.from = from,
			.to = to,
			.name = (order <= 0 ? old->v[i] : new->v[k])->d_name};
		int n = snprintf(
			d->path + len, sizeof(d->path) - len, "%s%s", len ? "/" : "", b.name);
		if (n >= (int)(sizeof(d->path) - len))
			r = err_set(ENAMETOOLONG, "/%.100s...: the path is too long", d->path);
		if (r >= 0 && order <= 0)
			r = look(from, b.name, &b.from_st);
		if (r >= 0 && order >= 0)
			r = look(to, b.name, &b.to_st);
		if (r >= 0)
			r = diff_name(d, &b);
		i += order <= 0;
		k += order >= 0;
		d->path[len] = '\0';
	}
	return r;
}

static int diff_dirs(struct diff *d, int from, int to)
{
	struct names old, new = {0};

	if (d->depth == DEPTH_MAX)
		return err_set(ELOOP, "/%.100s...: directories deeper than %d", d->path, DEPTH_MAX);
	d->depth++;
	int r = read_names(d, from, &old);
	if (r >= 0)
		r = read_names(d, to, &new);
	if (r >= 0)
		r = diff_names(d, from, to, &old, &new);
	release_names(&old);
	release_names(&new);
	d->depth--;
	return r;
}

int tree_diff(int from, int to, struct change_list *ret)
{
	struct diff d = {.list = ret};

	_Static_assert(COMPARE_SIZE >= XATTR_SIZE_MAX && COMPARE_SIZE >= PATH_MAX, "d.buf");
	d.buf = malloc(2 * COMPARE_SIZE);
	if (!d.buf)
		return err_set(ENOMEM, "out of memory");
	int r = diff_dirs(&d, from, to);
	free(d.buf);
	return r;
}
