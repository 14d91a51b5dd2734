/* SPDX-License-Identifier: Apache-2.0 */
#include "step/mnt.h"

#include "base/path.h"

int mnt_path_error(int r, const char *what, const char *path)
{
	switch (r) {
	case -ENOENT:
		return err_set(ENOENT,
			"%s%s: it was renamed or removed in the root file system while it was "
			"looked up",
			what, path);
	case -ELOOP:
		return err_set(ELOOP,
			"%s%s: refused: there is a symbolic link in the path that must not be "
			"followed, or there are too many of them",
			what, path);
	case -ENOTDIR:
		return err_set(
			ENOTDIR, "%s%s: not a directory in the root file system", what, path);
	case -EROFS:
		return err_set(EROFS,
			"%s%s: it is missing in a read-only file system, and cannot be made", what,
			path);
	default:
		return err_ctx(r, "%s%s", what, path);
	}
}

int mnt_clean_path(const char *path, char ret[static PATH_MAX])
{
	size_t len = 0;

	while (*path) {
		size_t n = strcspn(path, "/");
		if (n == 2 && path[0] == '.' && path[1] == '.') {
			while (len && ret[len - 1] != '/')
				len--;
			len -= len ? 1 : 0;
		} else if (n && !(n == 1 && path[0] == '.')) {
			if (len + n + 2 > PATH_MAX)
				return err_set(ENAMETOOLONG,
					"the path is too long: expected at most %d bytes",
					PATH_MAX);
			ret[len++] = '/';
			memcpy(ret + len, path, n);
			len += n;
		}
		path += n;
		path += *path == '/';
	}
	if (!len)
		ret[len++] = '/';
	ret[len] = '\0';
	return 0;
}

/*
 * Reports that attributes of a mount could not be set. EPERM usually means that the mount comes
 * from another user namespace and that its flags are therefore locked.
 */
static int attrs_failed(const struct mount_attr *a)
{
	if (errno == EPERM && a->attr_clr)
		return err_set(EPERM,
			"options: the mount has flags from outside the user namespace that cannot "
			"be "
			"changed in it: leave out \"rw\", \"suid\", \"dev\", \"exec\" and what "
			"changes access times");
	return err_sys("options: set the mount's flags");
}

static int set_attrs(int tree, bool recursive, uint64_t set, uint64_t clr)
{
	struct mount_attr a = {.attr_set = set, .attr_clr = clr};

	if (!set && !clr)
		return 0;
	/*
	 * The kernel stores all access time options of a mount in one field, so the whole field has
	 * to be cleared before one of its values can be set.
	 */
	if ((set | clr) & MOUNT_ATTR__ATIME)
		a.attr_clr |= MOUNT_ATTR__ATIME;
	return mnt_setattr(tree, recursive, &a) < 0 ? attrs_failed(&a) : 0;
}

int mnt_apply_attrs(int tree, const struct spec_mount *m)
{
	int r = set_attrs(tree, true, m->rec_attr_set, m->rec_attr_clr);

	return r < 0 ? r : set_attrs(tree, false, m->attr_set, m->attr_clr);
}

bool mnt_is_link_to(int dir, const char *name, const char *target)
{
	char found[PATH_MAX];
	ssize_t n = readlinkat(dir, name, found, sizeof(found));

	return n == (ssize_t)strlen(target) && memcmp(found, target, (size_t)n) == 0;
}

int mnt_try_symlink(int dir, const char *name, const char *path, const char *target)
{
	if (symlinkat(target, dir, name) == 0)
		return 1;
	return errno == EEXIST
		       ? 0
		       : err_set(errno, "make the symbolic link %s: %s", path, err_text(errno));
}

int mnt_symlink(const struct step_ctx *c, const char *path, const char *target)
{
	const char *name;

	_cleanup_fd_ int dir = path_parent(c->root, path, &name);
	if (dir < 0)
		return mnt_path_error(dir, "", path);
	int r = mnt_try_symlink(dir, name, path, target);
	if (r != 0)
		return r < 0 ? r : 0;
	return mnt_is_link_to(dir, name, target)
		       ? 0
		       : err_set(EEXIST, "%s is there already, and is not a symbolic link to %s",
				 path, target);
}
