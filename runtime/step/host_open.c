/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The runtime opens the source of a bind mount before the container exists.
 * INIT, the container's first process, could not open the source, because INIT may already be an
 * unprivileged user, and because INIT is in another mount namespace. INIT gets a detached copy of
 * the source's mount and no path, so that no path is looked up twice.
 *
 * A copy of a shared mount belongs to the same peer group as the original, so mounts that the
 * container makes beneath the copy would appear on the host. So every copy is made a slave, unless
 * config.json asks for another propagation.
 */
#include "step/host_open.h"

#include <sched.h>
#include <sys/vfs.h>

#include "base/aside.h"
#include "base/overlay.h"
#include "base/path.h"
#include "base/userns.h"
#include "step/mnt.h"
#include "step/pinned.h"

/*
 * Returns the words that an error message has between the field of the step and the path: the name
 * of the property that holds the source's path; or "" if the field itself is that property.
 */
static const char *source_property(const struct step *s)
{
	if (s->kind != STEP_OPEN_SOURCE)
		return "";
	return s->open.mount ? "source: " : "path: ";
}

static bool is_device(const struct step *s)
{
	return s->kind == STEP_OPEN_SOURCE && !s->open.mount;
}

static int open_failed(const struct step *s)
{
	const char *where = s->open.in_root ? "in the root file system" : "on the host";
	const char *p = source_property(s), *path = s->open.path;
	int code = errno;

	switch (code) {
	case ENOENT:
	case ENOTDIR:
		if (is_device(s))
			return err_set(code,
				"%s%s does not exist on the host, and caisson may not make device "
				"nodes here: run it as root outside of user namespaces, or leave "
				"the device out",
				p, path);
		return err_set(code, "%s%s does not exist %s", p, path, where);
	case EPERM:
		return err_set(code,
			"%scopy the mount of %s: not permitted: this takes CAP_SYS_ADMIN in the "
			"user namespace that owns the mount namespace",
			p, path);
	case EINVAL:
		return err_set(code,
			"%scopy the mount of %s: refused by the kernel: the mount is unbindable, "
			"or mounts beneath it are locked and can only be copied together with it: "
			"use \"rbind\"",
			p, path);
	default:
		return err_set(code, "%scopy the mount of %s: %s", p, path, err_text(code));
	}
}

int open_tree_propagate(int tree, const struct step *s)
{
	const struct spec_mount *m = s->open.mount;
	uint32_t base = s->open.propagation & ~(uint32_t)MS_REC, own = m ? m->propagation : 0;
	const char *p = source_property(s);

	/*
	 * The copy of the root is never left in the peer group of the host's mount, because every
	 * mount of the container would then appear on the host, and because pivot_root(2) refuses a
	 * shared root. The step ROOT_PROPAGATION, which comes after the step PIVOT, can make the
	 * copy shared again, in a peer group of its own.
	 */
	if (s->kind != STEP_OPEN_SOURCE && base == MS_SHARED)
		base = MS_SLAVE;
	/*
	 * An unbindable mount is made private, because caisson makes masked and read-only paths by
	 * bind-mounting parts of the container's mounts, and parts of an unbindable mount cannot be
	 * bound.
	 */
	if (base == MS_UNBINDABLE)
		base = MS_PRIVATE;
	if (!base)
		base = MS_SLAVE;
	/*
	 * If config.json asks for "shared" and not for "rshared", the copy of the source's mount
	 * stays in the source's peer group. A copy that is made a slave first would leave that
	 * group.
	 */
	bool keep = (own & MS_SHARED) && !(own & MS_REC);
	if (!(own & MS_REC) && !keep && mnt_set_propagation(tree, base | MS_REC) < 0)
		return err_sys("%sset the propagation of the copy of %s", p, s->open.path);
	if (own && mnt_set_propagation(tree, own) < 0)
		return err_sys("%sset the propagation of the copy of %s", p, s->open.path);
	return 0;
}

/*
 * Makes a user namespace with the id maps `uid` and `gid` for id-mapped mounts. No process of the
 * container runs in this namespace.
 */
static int open_userns(const struct spec_id_maps *uid, const struct spec_id_maps *gid)
{
	_cleanup_strbuf_ struct strbuf uids = {0}, gids = {0};

	int r = spec_id_maps_text(uid, &uids);
	if (r >= 0)
		r = spec_id_maps_text(gid, &gids);
	return r < 0 ? r : userns_open(strbuf_str(&uids), strbuf_str(&gids));
}

static int idmap_failed(int tree, const struct step *s)
{
	int code = errno;
	struct statfs fs = {0};

	if (code == EINVAL) {
		if (fstatfs(tree, &fs) < 0)
			return err_sys("stat %s", s->open.path);
		return err_set(code,
			"idmap: the file system of %s (type 0x%lx) has no idmapped mounts on this "
			"kernel: remove \"idmap\" and the mappings, or use another file system",
			s->open.path, (unsigned long)fs.f_type);
	}
	if (code == EPERM)
		return err_set(code,
			"idmap: %s cannot be idmapped: it is idmapped already, or its file system "
			"belongs to another user namespace than the runtime's",
			s->open.path);
	return err_set(code, "idmap: map the ids of %s: %s", s->open.path, err_text(code));
}

/*
 * Returns the user namespace by whose id maps the ids of the step's mount are mapped. `joined` is
 * the user namespace that the container joins by path.
 */
static int find_userns(const struct step *s, int joined)
{
	if (s->open.idmap_joined) {
		int fd = fcntl(joined, F_DUPFD_CLOEXEC, 3);
		return fd >= 0 ? fd
			       : err_set(EPERM,
					 "idmap: %s cannot be idmapped in the container's own user "
					 "namespace, which does not own its file system: use a "
					 "source that the host has, or run caisson as root",
					 s->open.path);
	}
	if (!s->open.idmap_uid.n || !s->open.idmap_gid.n)
		return err_set(EINVAL,
			"%s: missing: an idmapped mount needs uidMappings and gidMappings",
			s->open.idmap_uid.n ? "gidMappings" : "uidMappings");
	int fd = open_userns(&s->open.idmap_uid, &s->open.idmap_gid);
	return fd < 0 ? err_ctx(fd, "idmap") : fd;
}

int open_tree_map(int tree, const struct step *s, int joined)
{
	const struct spec_mount *m = s->open.mount;

	if (!s->open.idmap_uid.n && !s->open.idmap_gid.n && !s->open.idmap_joined)
		return 0;
	_cleanup_fd_ int userns = find_userns(s, joined);
	if (userns < 0)
		return userns;
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)userns};
	return mnt_setattr(tree, m && m->ridmap, &attr) < 0 ? idmap_failed(tree, s) : 0;
}

/*
 * Opens the source of a mount: below `root`, the container's root, if s->open.in_root is set, else
 * on the host. Returns a negative number and sets errno on failure.
 */
static int open_source(int root, const struct step *s, int flags)
{
	if (!s->open.in_root)
		return open(s->open.path, flags);
	int fd = path_open(root, s->open.path, flags);
	if (fd < 0)
		errno = -fd;
	return fd;
}

/*
 * Handles the mount option copy-symlink: if the source is a symbolic link, opens the link itself,
 * so that the link can be read. Returns -EBADF if the source is not a link, so that the caller has
 * to copy its mount.
 */
static int open_link(int root, const struct step *s)
{
	struct stat st;

	if (!s->open.mount || !s->open.mount->copy_symlink)
		return -EBADF;
	_cleanup_fd_ int fd = open_source(root, s, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return open_failed(s);
	return S_ISLNK(st.st_mode) ? take_fd(&fd) : -EBADF;
}

static unsigned copy_flags(const struct step *s)
{
	return OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (s->open.recursive ? AT_RECURSIVE : 0) |
	       (s->open.mount && s->open.mount->src_nofollow ? AT_SYMLINK_NOFOLLOW : 0);
}

/* Runs in a helper process, which is in a mount namespace of its own. */
static int copy_aside(void *data, int *fds)
{
	const struct step *s = data;

	fds[0] = open_tree(AT_FDCWD, s->open.path, copy_flags(s));
	return fds[0] < 0 ? err_sys("copy the mount of %s", s->open.path) : 0;
}

/*
 * Makes a detached copy of the mount at the step's source, with the mounts beneath it but without
 * pinned mount namespaces, with which the copy could not be attached: see step/pinned.h. Returns -1
 * and sets errno on failure.
 */
static int copy_without_pinned(const struct step *s)
{
	int fd;

	int r = aside_run(CLONE_NEWNS, copy_aside, (void *)s, &fd, 1);
	if (r >= 0)
		return fd;
	errno = -r;
	return -1;
}

/*
 * Makes a detached copy of the mount at the step's source. If s->open.as_namespace is set, only
 * opens the source, because the step ATTACH_ROOT will make a mount namespace of it. Returns -1 and
 * sets errno on failure.
 */
static int copy_source(int root, const struct step *s)
{
	bool nofollow = s->open.mount && s->open.mount->src_nofollow;

	if (s->open.as_namespace)
		return open(s->open.path, O_PATH | O_CLOEXEC);
	if (!s->open.in_root && s->open.recursive && pinned_below(s->open.path))
		return copy_without_pinned(s);
	if (!s->open.in_root)
		return open_tree(AT_FDCWD, s->open.path, copy_flags(s));
	_cleanup_fd_ int fd = open_source(root, s, O_PATH | (nofollow ? O_NOFOLLOW : 0));
	return fd < 0 ? -1 : mnt_clone(fd, s->open.recursive);
}

static int mount_layers(const struct step *s)
{
	const struct overlay o = {.dir = s->open.layers,
		.lower = s->open.lower,
		.upper = s->open.upper,
		.work = s->open.work,
		.userxattr = s->open.userxattr};

	return overlay_mount(&o);
}

/*
 * Copies the mount of the step's source. If the source is inside the container, it is looked up in
 * `root`, the container's root file system. `joined` is the user namespace that the container joins
 * by path, or -EBADF.
 */
static int copy_mount(int root, const struct step *s, int joined)
{
	struct stat st;

	int link = open_link(root, s);
	if (link != -EBADF)
		return link;
	_cleanup_fd_ int tree = s->open.layers ? mount_layers(s) : copy_source(root, s);
	if (tree < 0)
		return s->open.layers ? tree : open_failed(s);
	if (s->kind != STEP_OPEN_SOURCE) {
		if (fstat(tree, &st) < 0)
			return err_sys("stat %s", s->open.path);
		if (!S_ISDIR(st.st_mode))
			return err_set(ENOTDIR,
				"%s is not a directory: expected a root file system", s->open.path);
	}
	/*
	 * If as_namespace is set, the propagation is not set here, because the step ATTACH_ROOT
	 * later makes a mount namespace of a copy of this tree, and sets the propagation in that
	 * namespace.
	 */
	if (s->open.as_namespace)
		return take_fd(&tree);
	int r = open_tree_propagate(tree, s);
	if (r < 0)
		return r;
	r = open_tree_map(tree, s, joined);
	return r < 0 ? r : take_fd(&tree);
}

int open_tree_copy(const struct step *s, int userns)
{
	return copy_mount(-EBADF, s, userns);
}

int step_open(struct step_ctx *c, const struct step *s)
{
	int fd = copy_mount(c->root, s, -EBADF);

	if (fd < 0)
		return fd;
	/*
	 * The cast removes const. INIT, the container's first process, may write here, because the
	 * array `slots` is its own copy, in which the runtime has left this slot empty.
	 */
	((int *)c->slots)[s->slot] = fd;
	return 0;
}
