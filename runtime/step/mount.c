/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The target of a mount is looked up once, beneath the container's root, as an
 * O_PATH descriptor. All checks are made on that descriptor, and the mount is attached to it, so a
 * process that swaps names between check and mount gains nothing. Before the mount is attached, it
 * is detached and already has its attributes. For a bind mount it is a copy of the source that the
 * runtime made, otherwise a new file system (mount_fs.c).
 *
 * Programs trust what they find in /proc, and so does the kernel's LSM interface. An image with a
 * link /proc -> /evil could put its own files there. So only a procfs may be mounted on /proc, and
 * beneath /proc only the files that lxcfs replaces can be mounted on. Neither procfs nor sysfs is
 * mounted through a symbolic link.
 */
#include <linux/magic.h>
#include <sys/vfs.h>

#include "base/log.h"
#include "base/path.h"
#include "step/mnt.h"

#define PROC_ROOT_INODE 1

static bool is_type(const struct spec_mount *m, const char *type)
{
	return !m->bind && m->type && streq(m->type, type);
}

/*
 * Says whether the path is one of the files of procfs that lxcfs and similar programs replace by
 * mounts.
 */
static bool may_be_replaced(const char *path)
{
	static const char *const files[] = {
		"/proc/cpuinfo",
		"/proc/diskstats",
		"/proc/loadavg",
		"/proc/meminfo",
		"/proc/net/dev",
		"/proc/slabinfo",
		"/proc/stat",
		"/proc/swaps",
		"/proc/sys/crypto/fips_enabled",
		"/proc/sys/kernel/ns_last_pid",
		"/proc/uptime",
	};

	for (size_t i = 0; i < ARRAY_SIZE(files); i++)
		if (streq(path, files[i]))
			return true;
	return false;
}

static int fs_type(int fd, const char *path, long *ret)
{
	struct statfs fs;

	if (fstatfs(fd, &fs) < 0)
		return err_sys("stat the file system of %s", path);
	*ret = (long)fs.f_type;
	return 0;
}

/*
 * Refuses a mount that would replace /proc or files in /proc. `source` is the descriptor of a bind
 * mount's source, or -EBADF.
 */
static int check_proc(const struct mnt_target *t, const struct spec_mount *m, int source)
{
	bool is_proc = is_type(m, "proc"), at_proc = streq(t->path, "/proc");
	long type = 0;

	int r = fs_type(t->fd, t->path, &type);
	if (r < 0)
		return r;
	if (may_be_replaced(t->path))
		return 0;
	/*
	 * If the target of a mount is the root of a procfs, by whatever path, only another whole
	 * procfs may cover it.
	 */
	bool whole = type == PROC_SUPER_MAGIC && t->st.st_ino == PROC_ROOT_INODE;
	bool inside = (type == PROC_SUPER_MAGIC && !whole) || str_starts(t->path, "/proc/");
	if (!inside && !at_proc && !whole)
		return 0;
	if (!inside && !is_proc && source >= 0) {
		r = fs_type(source, t->path, &type);
		if (r < 0)
			return r;
		is_proc = type == PROC_SUPER_MAGIC;
	}
	if (!inside && is_proc)
		return 0;
	if (inside)
		return err_set(EPERM,
			"destination: %s is inside /proc: refused, because programs would read "
			"forged data there: mount it elsewhere",
			t->path);
	return err_set(EPERM,
		"destination: %s is the container's procfs: only the type \"proc\", or a bind "
		"mount of a procfs, may be mounted there",
		t->path);
}

static int open_existing(const struct step_ctx *c, const struct spec_mount *m, const char *path)
{
	if (is_type(m, "proc") || is_type(m, "sysfs"))
		return path_open_nolinks(c->root, path, O_PATH | O_DIRECTORY);
	return path_open(c->root, path, O_PATH | (m->dest_nofollow ? O_NOFOLLOW : 0));
}

/*
 * Opens the target of a mount. If the target is missing, makes it as a directory if `dir` is set,
 * else as a file.
 */
static int open_target(
	const struct step_ctx *c, const struct spec_mount *m, bool dir, struct mnt_target *t)
{
	int r = mnt_clean_path(m->destination, t->path);

	if (r < 0)
		return err_ctx(r, "destination");
	t->fd = open_existing(c, m, t->path);
	t->existed = t->fd >= 0;
	if (t->fd == -ENOENT && !m->remount) {
		t->fd = dir ? path_mkdirs(c->root, t->path) : path_mkfile(c->root, t->path);
		if (t->fd >= 0 && (is_type(m, "proc") || is_type(m, "sysfs"))) {
			/*
			 * The target is opened again without following links, because making it may
			 * have followed links.
			 */
			fd_close(&t->fd);
			t->fd = open_existing(c, m, t->path);
		}
	}
	if (t->fd == -ENOENT && str_starts(t->path, "/proc/"))
		return err_set(ENOENT,
			"destination: %s does not exist, and nothing can be made in a procfs: "
			"leave the mount out, or put it elsewhere",
			t->path);
	if (t->fd < 0)
		return mnt_path_error(t->fd, "destination: ", t->path);
	if (fstat(t->fd, &t->st) < 0)
		return err_sys("stat %s", t->path);
	if (t->st.st_ino == c->root_stat.st_ino && t->st.st_dev == c->root_stat.st_dev)
		return err_set(EINVAL,
			"destination: %s is the root itself: expected a path beneath it", t->path);
	if (!m->remount && S_ISDIR(t->st.st_mode) != dir)
		return err_set(dir ? ENOTDIR : EISDIR,
			"destination: %s is %s, but %s is mounted there", t->path,
			dir ? "not a directory" : "a directory", dir ? "a directory" : "a file");
	return 0;
}

static int apply_propagation(int tree, const struct spec_mount *m)
{
	if (m->propagation && mnt_set_propagation(tree, m->propagation) < 0)
		return err_sys("options: set the mount's propagation");
	return 0;
}

static int attach_mount(int tree, const struct mnt_target *t)
{
	return mnt_attach(tree, t->fd) < 0 ? err_sys("mount on %s", t->path) : 0;
}

/*
 * Copies a symbolic link of the host, the source of a mount with the option copy-symlink, into the
 * container, so that the link is resolved in the container and not on the host.
 */
static int copy_link(struct step_ctx *c, const struct spec_mount *m, int link)
{
	char target[PATH_MAX], path[PATH_MAX];
	ssize_t n = readlinkat(link, "", target, sizeof(target) - 1);

	if (n < 0)
		return err_sys("source: read the symbolic link %s", m->source);
	target[n] = '\0';
	int r = mnt_clean_path(m->destination, path);
	if (r >= 0)
		r = mnt_symlink(c, path, target);
	return r < 0 ? err_ctx(r, "destination") : 0;
}

static int mount_bind(struct step_ctx *c, const struct step *s)
{
	const struct spec_mount *m = s->mount.mount;
	struct mnt_target t = {.fd = -EBADF};
	struct stat st;

	int tree = s->slot < 0 ? -EBADF : c->slots[s->slot];
	if (tree < 0)
		return err_set(EBADF, "source: the copy of %s is missing", m->source);
	if (fstat(tree, &st) < 0)
		return err_sys("source: stat %s", m->source);
	for (size_t i = 0; i < m->data.n; i++)
		if (strchr(m->data.v[i], '=') && !str_starts(m->data.v[i], "x-"))
			log_warn("%s.options: \"%.80s\" has no effect on a bind mount", s->field,
				m->data.v[i]);
	if (m->copy_symlink && S_ISLNK(st.st_mode))
		return copy_link(c, m, tree);
	int r = open_target(c, m, S_ISDIR(st.st_mode), &t);
	_cleanup_fd_ int target = t.fd;
	if (r >= 0)
		r = check_proc(&t, m, tree);
	if (r >= 0)
		r = mnt_apply_attrs(tree, m);
	/*
	 * The propagation of `tree` is not set here, because the runtime set it when it copied the
	 * mount: only then could the copy leave the source's peer group.
	 */
	return r < 0 ? r : attach_mount(tree, &t);
}

static int remember_late_ro(struct step_ctx *c, const struct step *s, int tree)
{
	struct step_late_ro *l = arena_alloc(c->arena, sizeof(*l));

	if (!l)
		return -ENOMEM;
	*l = (struct step_late_ro){.next = c->late_ro, .fd = tree, .field = s->field};
	c->late_ro = l;
	return 0;
}

static int mount_new(struct step_ctx *c, const struct step *s)
{
	const struct spec_mount *m = s->mount.mount;
	struct mnt_target t = {.fd = -EBADF};

	if (m->idmap || m->ridmap)
		return err_set(EINVAL, "options: \"idmap\" is for bind mounts: add \"bind\"");
	int r = open_target(c, m, true, &t);
	_cleanup_fd_ int target = t.fd;
	if (r >= 0)
		r = check_proc(&t, m, -EBADF);
	if (r < 0)
		return r;
	_cleanup_fd_ int tree = mnt_new_fs(c, s, &t);
	if (tree < 0)
		return tree;
	r = apply_propagation(tree, m);
	if (r >= 0)
		r = attach_mount(tree, &t);
	/*
	 * Two kinds of mounts become read-only at the step PIVOT and not here, because other steps
	 * make files in them: /dev, and a tmpfs, in which mount points may be made.
	 */
	bool late =
		(m->attr_set & MOUNT_ATTR_RDONLY) && (is_type(m, "tmpfs") || streq(t.path, "/dev"));
	if (r >= 0 && late)
		r = remember_late_ro(c, s, take_fd(&tree));
	return r;
}

/* Does a mount with the option "remount": changes the options of a mount that already exists. */
static int change_mount(struct step_ctx *c, const struct spec_mount *m)
{
	struct mnt_target t = {.fd = -EBADF};
	struct statx sx;

	int r = open_target(c, m, true, &t);
	_cleanup_fd_ int target = t.fd;
	if (r < 0)
		return r;
	if (statx(target, "", AT_EMPTY_PATH, STATX_INO, &sx) < 0)
		return err_sys("stat %s", t.path);
	if (!(sx.stx_attributes & STATX_ATTR_MOUNT_ROOT))
		return err_set(EINVAL,
			"destination: nothing is mounted on %s that \"remount\" could change: "
			"expected an earlier entry of mounts to mount it",
			t.path);
	if (!m->bind)
		r = mnt_reconfigure(target, m);
	if (r >= 0)
		r = mnt_apply_attrs(target, m);
	return r < 0 ? r : apply_propagation(target, m);
}

int step_mount(struct step_ctx *c, const struct step *s)
{
	const struct spec_mount *m = s->mount.mount;

	if (m->remount)
		return change_mount(c, m);
	/*
	 * The source of this mount is a virtio-fs share or a disk, which a vhost-user server
	 * provides and the guest's agent has mounted already. So the mount is attached like a bind
	 * mount.
	 */
	return m->bind || m->backend ? mount_bind(c, s) : mount_new(c, s);
}
