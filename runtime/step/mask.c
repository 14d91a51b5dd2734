/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hides paths and makes paths read-only. This is done after the step PIVOT, so it applies to what
 * the container will see. A usual config.json has more than a dozen such paths, so each must cost
 * as few system calls as possible.
 *
 * A path is hidden by a mount on it, its cover: the host's /dev/null on a file (root.c), and an
 * empty file system on a directory. Each of the two covers is made once. The cover itself is
 * attached at its first use, and a clone of it at each further use, because the kernel clones only
 * mounts that are attached in this namespace; before Linux 6.15 it does not clone detached ones.
 */
#include "base/path.h"
#include "step/mnt.h"

/*
 * Makes an empty file system in which no one can create or change anything, and keeps its mount in
 * c->dir_cover.
 */
static int make_empty_fs(struct step_ctx *c)
{
	_cleanup_fd_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);

	/*
	 * The empty file system has only one inode, its root directory. The limits of inodes and
	 * blocks keep the file system empty even if the container can remount it as writable.
	 */
	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "2", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "nr_blocks", "1", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "mode", "755", 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return err_sys("make an empty file system");
	c->dir_cover.fd = fsmount(fs, FSMOUNT_CLOEXEC,
		MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	return c->dir_cover.fd < 0 ? err_sys("mount an empty file system") : 0;
}

static int cover_path(struct step_cover *with, int target, const char *path)
{
	_cleanup_fd_ int clone = -EBADF;
	int tree = with->fd;

	if (with->attached) {
		tree = clone = mnt_clone(with->fd, false);
		if (clone < 0)
			return err_sys("copy the mount that hides %s", path);
	}
	if (mnt_attach(tree, target) < 0)
		return err_sys("hide %s", path);
	with->attached = true;
	return 0;
}

/*
 * Opens a path in the container that is to be hidden or read-only. Returns -ENOENT if the path does
 * not exist, because then there is nothing to do.
 */
static int open_path(struct step_ctx *c, const char *path)
{
	int fd = path_open(c->root, path, O_PATH);

	if (fd != -ENOENT && fd != -ENOTDIR)
		return fd;
	err_clear();
	return -ENOENT;
}

int step_mask_path(struct step_ctx *c, const struct step *s)
{
	struct stat st;

	_cleanup_fd_ int target = open_path(c, s->text);
	if (target < 0)
		return target == -ENOENT ? 0 : target;
	if (fstat(target, &st) < 0)
		return err_sys("stat %s", s->text);
	if (!S_ISDIR(st.st_mode))
		return cover_path(&c->null_cover, target, s->text);
	if (c->dir_cover.fd < 0) {
		int r = make_empty_fs(c);
		if (r < 0)
			return r;
	}
	return cover_path(&c->dir_cover, target, s->text);
}

int step_readonly_path(struct step_ctx *c, const struct step *s)
{
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_RDONLY};

	_cleanup_fd_ int target = open_path(c, s->text);
	if (target < 0)
		return target == -ENOENT ? 0 : target;
	/*
	 * The path is made read-only by a copy of its mount that is mounted on it. The copy
	 * includes the mounts beneath the path, but only the mount at the path itself becomes
	 * read-only, as in other runtimes.
	 */
	_cleanup_fd_ int tree = mnt_clone(target, true);
	if (tree < 0)
		return err_sys("copy the mount of %s", s->text);
	if (mnt_setattr(tree, false, &attr) < 0)
		return err_sys("make %s read-only", s->text);
	return mnt_attach(tree, target) < 0 ? err_sys("mount %s read-only", s->text) : 0;
}
