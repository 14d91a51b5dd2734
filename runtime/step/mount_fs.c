/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides what each type of file system needs when caisson makes a new one; the functions in
 * new_fs.c make the mount.
 *
 * The mount option "ro" makes the mount read-only. It also makes the super block read-only, as
 * mount(8) does, because the medium may not be writable. The exceptions are pseudo file systems and
 * tmpfs, because their super blocks are shared or still have to be filled.
 */
#include <linux/magic.h>
#include <stdio.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include "base/copy.h"
#include "base/fd.h"
#include "step/new_fs.h"

/* the value of SELINUX_MAGIC in <linux/magic.h>, which not all versions of that header define */
#define SELINUX_FS 0xf97cff8c

static bool is_pseudo(const char *type)
{
	static const char *const types[] = {"binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs",
		"debugfs", "devpts", "devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue",
		"overlay", "proc", "pstore", "ramfs", "securityfs", "sysfs", "tmpfs", "tracefs"};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (streq(type, types[i]))
			return true;
	return false;
}

static bool selinux_enabled(void)
{
	struct statfs fs;

	return statfs("/sys/fs/selinux", &fs) == 0 && (unsigned long)fs.f_type == SELINUX_FS;
}

static const char *host_cgroup2(void)
{
	struct statfs fs;

	if (statfs("/sys/fs/cgroup", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
		return "/sys/fs/cgroup";
	if (statfs("/sys/fs/cgroup/unified", &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
		return "/sys/fs/cgroup/unified";
	return NULL;
}

/*
 * Makes a detached copy of the host's mount at `path` instead of a new file system. This works
 * until the step PIVOT, because the host's mounts can be reached until then.
 */
static int copy_host_mount(const struct new_fs *f, const char *path, bool ro)
{
	struct spec_mount own = {.attr_set = f->m->attr_set & FSMOUNT_ATTRS};
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					      MOUNT_ATTR_NOEXEC | (ro ? MOUNT_ATTR_RDONLY : 0)};
	_cleanup_fd_ int tree =
		open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (tree < 0 || mnt_setattr(tree, true, &attr) < 0)
		return err_set(errno, "copy the mount of the host's %s: %s", path, err_text(errno));
	int r = mnt_apply_attrs(tree, &own);
	return r < 0 ? r : take_fd(&tree);
}

/*
 * Makes the mount of the cgroup file system. A container with a cgroup namespace of its own gets a
 * new mount, whose root is the container's cgroup.
 *
 * In any other container a new mount would show the host's whole cgroup tree, and would even change
 * the options of the host's mount. So the host's mount is copied. As in runc and crun, the copy is
 * writable unless config.json says "ro", which engines do unless the container is to manage the
 * host's cgroups. In a user namespace the copy is always read-only, because the directories may be
 * the user's own (CVE-2023-25809).
 */
static int new_cgroup2(struct new_fs *f)
{
	bool userns = f->s->mount.userns;

	f->type = "cgroup2";
	if (f->s->mount.cgroup_ns) {
		int tree = new_fs_by_fsopen(f);
		if (tree >= 0 || !userns || (tree != -EPERM && tree != -EBUSY))
			return tree;
		err_clear();
	}
	const char *path = host_cgroup2();
	if (!path)
		return err_set(ENODEV,
			"type: the host has no cgroup2 file system at /sys/fs/cgroup or "
			"/sys/fs/cgroup/unified: mount one there, or leave this entry out");
	bool ro = userns || ((f->m->attr_set | f->m->rec_attr_set) & MOUNT_ATTR_RDONLY);
	return copy_host_mount(f, path, ro);
}

/*
 * Makes a sysfs, which always shows one network namespace. If the container has a user namespace
 * but no network namespace of its own, the kernel does not allow a new sysfs, so the host's mount
 * of sysfs is copied.
 */
static int new_sysfs(const struct new_fs *f)
{
	int tree = new_fs_by_fsopen(f);

	if (tree != -EPERM || !f->s->mount.userns)
		return tree;
	err_clear();
	return copy_host_mount(f, "/sys", true);
}

static bool has_option(const struct spec_mount *m, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < m->data.n; i++)
		for (const char *p = m->data.v[i]; p; p = strchr(p, ','), p = p ? p + 1 : NULL)
			if (strncmp(p, name, len) == 0 && p[len] == '=')
				return true;
	return false;
}

static int new_tmpfs(struct new_fs *f)
{
	/*
	 * The tmpfs gets the mode of the directory that it covers, as in other runtimes. If caisson
	 * has just made that directory, the tmpfs keeps its default mode 1777.
	 */
	if (f->t->existed && !has_option(f->m, "mode"))
		snprintf(f->mode, sizeof(f->mode), "mode=%04o", f->t->st.st_mode & 07777);
	_cleanup_fd_ int tree = new_fs_make(f);
	if (tree < 0 || !f->m->tmpcopyup)
		return take_fd(&tree);
	/*
	 * Only the content of the covered directory is copied into the tmpfs. The root directory of
	 * the tmpfs stays owned by root, as in runc and crun.
	 */
	int r = copy_tree(f->t->fd, tree);
	if (r == -ENOSPC || r == -EDQUOT)
		r = err_ctx(r, "what is copied is larger than the tmpfs (its options \"size=\", "
			       "\"nr_inodes=\")");
	return r < 0 ? err_ctx(r, "options: tmpcopyup: %s", f->t->path) : take_fd(&tree);
}

/*
 * Makes a file system of POSIX message queues. This type of file system has no mount option
 * context=, so its root directory gets the SELinux label instead.
 */
static int new_mqueue(const struct new_fs *f, const char *label)
{
	_cleanup_fd_ int tree = new_fs_by_fsopen(f);

	if (tree < 0 || !label)
		return take_fd(&tree);
	_cleanup_fd_ int dir = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || fsetxattr(dir, "security.selinux", label, strlen(label) + 1, 0) < 0)
		return err_sys("linux.mountLabel: set the label \"%s\"", label);
	return take_fd(&tree);
}

static int new_tree(struct new_fs *f, const char *label)
{
	if (streq(f->type, "cgroup") || streq(f->type, "cgroup2"))
		return new_cgroup2(f);
	if (streq(f->type, "proc"))
		return new_fs_by_fsopen(f);
	if (streq(f->type, "sysfs"))
		return new_sysfs(f);
	if (streq(f->type, "mqueue"))
		return new_mqueue(f, label);
	f->label = label;
	if (streq(f->type, "tmpfs"))
		return new_tmpfs(f);
	return new_fs_make(f);
}

int mnt_new_fs(struct step_ctx *c, const struct step *s, const struct mnt_target *t)
{
	const struct spec_mount *m = s->mount.mount;
	struct new_fs f = {.c = c, .s = s, .m = m, .t = t, .type = m->type, .source = m->source};

	if (!f.type || !*f.type)
		return err_set(EINVAL,
			"type: missing: expected a file system such as \"tmpfs\", or the option "
			"\"bind\"");
	if (m->tmpcopyup && !streq(f.type, "tmpfs"))
		return err_set(EINVAL,
			"options: \"tmpcopyup\" is for the type \"tmpfs\", not \"%s\"", f.type);
	if (f.source && !*f.source)
		f.source = NULL;
	f.ro = (m->attr_set & MOUNT_ATTR_RDONLY) && !is_pseudo(f.type);
	bool label = s->mount.label && *s->mount.label && selinux_enabled();
	_cleanup_fd_ int tree = new_tree(&f, label ? s->mount.label : NULL);
	if (tree < 0)
		return tree;
	/*
	 * Of the attributes that the mount gets, fsmount(2) has set those for the mount alone. What
	 * remains are those that also apply to the mounts beneath it.
	 */
	struct spec_mount rest = {.rec_attr_set = m->rec_attr_set, .rec_attr_clr = m->rec_attr_clr};
	int r = mnt_apply_attrs(tree, &rest);
	return r < 0 ? r : take_fd(&tree);
}
