/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes device nodes and the symbolic links in /dev. A link in the last component of a path is
 * never followed: if the image has a link there, the step fails. If an image links /dev itself to a
 * place outside of the root, the node is made inside the root (CVE-2026-47766).
 */
#include <sched.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "base/log.h"
#include "base/path.h"
#include "step/mnt.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

static mode_t wanted_type(const struct spec_device *d)
{
	return d->type == 'b' ? S_IFBLK : d->type == 'p' ? S_IFIFO : S_IFCHR;
}

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFBLK:
		return "a block device";
	case S_IFCHR:
		return "a character device";
	case S_IFIFO:
		return "a fifo";
	case S_IFDIR:
		return "a directory";
	case S_IFLNK:
		return "a symbolic link";
	case S_IFSOCK:
		return "a socket";
	default:
		return "a regular file";
	}
}

static bool is_device(const struct spec_device *d, const struct stat *st)
{
	return (st->st_mode & S_IFMT) == wanted_type(d) &&
	       (d->type == 'p' || st->st_rdev == makedev(d->major, d->minor));
}

static int not_the_device(const struct spec_device *d, const struct stat *st, const char *where)
{
	bool dev = S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode);

	return err_set(EEXIST,
		"path: %s %s is %s %u:%u, expected %s %u:%u: remove it, or correct type, major and "
		"minor",
		d->path, where, type_name(st->st_mode), dev ? major(st->st_rdev) : 0,
		dev ? minor(st->st_rdev) : 0, type_name(wanted_type(d)), d->major, d->minor);
}

/*
 * Changes the mode of the file of the O_PATH descriptor `fd` through /proc/self/fd, because before
 * Linux 6.6 no system call changes a mode by name without following links.
 */
static int change_mode(struct step_ctx *c, int fd, mode_t mode)
{
	char path[32];

	if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != ENOSYS)
		return -1;
	/*
	 * The path self/fd/N leads to the file of `fd` and to no other file, because `proc` is the
	 * host's own procfs, where self/fd/N is a magic link.
	 */
	snprintf(path, sizeof(path), "self/fd/%d", fd);
	return fchmodat(c->proc, path, mode, 0);
}

/*
 * Sets the owner and the mode of the node dir/name if they differ from those that `d` asks for.
 * Fails if dir/name is anything but the device `d`.
 */
static int adjust_node(struct step_ctx *c, int dir, const char *name, const struct spec_device *d)
{
	mode_t mode = d->file_mode.set ? (mode_t)d->file_mode.v & 07777 : 0666;
	uid_t uid = d->uid.set ? (uid_t)d->uid.v : 0;
	gid_t gid = d->gid.set ? (gid_t)d->gid.v : 0;
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return err_sys("stat %s", d->path);
	if (is_device(d, &st) && (st.st_mode & 07777) == mode && st.st_uid == uid &&
		st.st_gid == gid)
		return 0;
	_cleanup_fd_ int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys("open %s", d->path);
	if (!is_device(d, &st))
		return not_the_device(d, &st, "in the root file system");
	if (fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0)
		return err_sys("uid, gid: set the owner of %s to %u:%u", d->path, uid, gid);
	if (change_mode(c, fd, mode) < 0)
		return err_sys("fileMode: set the mode of %s to 0%o", d->path, mode);
	return 0;
}

/*
 * Warns if a node that is bind-mounted from the host does not have the owner and mode that
 * config.json asks for, because a bind mount shows the owner and mode of the host's node.
 */
static void warn_of_attributes(
	const struct spec_device *d, const char *field, const struct stat *st)
{
	const mode_t mode = st->st_mode & 07777;

	if (!field || ((!d->file_mode.set || d->file_mode.v == mode) &&
			      (!d->uid.set || d->uid.v == st->st_uid) &&
			      (!d->gid.set || d->gid.v == st->st_gid)))
		return;
	log_warn("%s: %s is bound from the host, and has the owner %u:%u and mode 0%o there: "
		 "fileMode, uid and gid have no effect, because caisson may not make device nodes "
		 "here",
		field, d->path, st->st_uid, st->st_gid, mode);
}

/*
 * Attaches `tree`, a detached mount of a device node, at the path `name` in the directory dir.
 * `field` is the property of linux.devices, or NULL for a default device.
 */
static int bind_device(
	int tree, int dir, const char *name, const struct spec_device *d, const char *field)
{
	struct stat st;

	if (fstat(tree, &st) < 0)
		return err_sys("stat %s", d->path);
	if (!is_device(d, &st))
		return not_the_device(d, &st, "on the host");
	warn_of_attributes(d, field, &st);
	_cleanup_fd_ int made =
		openat(dir, name, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDONLY | O_CLOEXEC, 0);
	if (made < 0 && errno != EEXIST)
		return err_sys("create %s", d->path);
	_cleanup_fd_ int target = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (target < 0 || fstat(target, &st) < 0)
		return err_sys("open %s", d->path);
	if (!S_ISREG(st.st_mode) && !is_device(d, &st))
		return not_the_device(d, &st, "in the root file system");
	return mnt_attach(tree, target) < 0 ? err_sys("mount the node %s", d->path) : 0;
}

/*
 * Makes a detached copy of the mount of a file of the host. If this process is already in a mount
 * namespace that has nothing of the host, the process returns to the host's mount namespace for the
 * call that makes the copy. The copy is private, because a mount that the container puts on it must
 * not appear on the host.
 */
static int copy_from_host(const struct step_ctx *c, const char *path)
{
	if (c->host_mounts >= 0 && setns(c->host_mounts, CLONE_NEWNS) < 0)
		return -1;
	_cleanup_fd_ int tree = open_tree(AT_FDCWD, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	int code = errno;
	if (c->host_mounts >= 0 && setns(c->own_mounts, CLONE_NEWNS) < 0)
		return -1;
	errno = code;
	if (tree < 0 || mnt_set_propagation(tree, MS_PRIVATE) < 0)
		return -1;
	return take_fd(&tree);
}

/*
 * Bind-mounts the host's device node, because mknod(2) failed although the plan expected it to
 * succeed. mknod(2) fails in this way if caisson was started in a user namespace and did not detect
 * that.
 */
static int bind_instead(const struct step_ctx *c, int dir, const char *name, const struct step *s)
{
	const struct spec_device *d = s->device.device;
	_cleanup_fd_ int tree = copy_from_host(c, d->path);

	if (tree < 0)
		return err_set(EPERM,
			"%s: making device nodes is not permitted here, and the host has none at "
			"this path to bind: %s",
			d->path, err_text(errno));
	return bind_device(tree, dir, name, d, s->field);
}

int step_device(struct step_ctx *c, const struct step *s)
{
	const struct spec_device *d = s->device.device;
	mode_t mode = d->file_mode.set ? (mode_t)d->file_mode.v & 07777 : 0666;
	dev_t dev = d->type == 'p' ? 0 : makedev(d->major, d->minor);
	char path[PATH_MAX];
	const char *name;

	int r = mnt_clean_path(d->path, path);
	if (r < 0)
		return err_ctx(r, "path");
	/*
	 * A device /dev/ptmx in linux.devices is skipped, because /dev/ptmx is always a link to the
	 * container's own pts/ptmx, which a step SYMLINK makes.
	 */
	if (streq(path, "/dev/ptmx"))
		return 0;
	_cleanup_fd_ int dir = path_parent(c->root, path, &name);
	if (dir < 0)
		return mnt_path_error(dir, "path: ", path);
	if (s->device.bind) {
		int tree = s->slot < 0 ? -EBADF : c->slots[s->slot];
		if (tree < 0)
			return err_set(EBADF, "%s: the node to mount is missing", path);
		return bind_device(tree, dir, name, d, s->field);
	}
	if (mknodat(dir, name, wanted_type(d) | mode, dev) == 0 || errno == EEXIST)
		return adjust_node(c, dir, name, d);
	if (errno == EPERM && d->type != 'p')
		return bind_instead(c, dir, name, s);
	return err_set(errno, "make %s: %s", path, err_text(errno));
}

/*
 * Makes a symbolic link in /dev. If the image already has a file at the path, that file stays, as
 * in other runtimes. Only /dev/ptmx is replaced, because it must lead to the container's own devpts
 * (config-linux.md, default devices).
 */
int step_symlink(struct step_ctx *c, const struct step *s)
{
	const char *target = s->link.target, *path = s->link.path, *name;
	struct stat st;

	/* The link /dev/core to /proc/kcore is only made if the kernel has /proc/kcore. */
	if (streq(target, "/proc/kcore") && fstatat(c->proc, "kcore", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	_cleanup_fd_ int dir = path_parent(c->root, path, &name);
	if (dir < 0)
		return mnt_path_error(dir, "", path);
	int r = mnt_try_symlink(dir, name, path, target);
	if (r != 0)
		return r < 0 ? r : 0;
	if (!streq(path, "/dev/ptmx") || mnt_is_link_to(dir, name, target))
		return 0;
	if (unlinkat(dir, name, 0) < 0 || symlinkat(target, dir, name) < 0)
		return err_sys("replace %s by a symbolic link to %s", path, target);
	return 0;
}
