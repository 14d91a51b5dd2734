/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves the guest's requests for attributes, link targets, file system statistics and extended
 * attributes.
 */
#include <sys/statvfs.h>
#include <sys/xattr.h>

#include "vm/fs/fs.h"

int fs_lookup(struct fs_session *s, struct fs_request *r)
{
	return fs_node_lookup(s, r->node, r->name[0], (struct fuse_entry_out *)s->reply);
}

int fs_getattr(struct fs_session *s, struct fs_request *r)
{
	return fs_node_attr(s, r->node->fd, (struct fuse_attr_out *)s->reply);
}

static int set_size(struct fs_session *s, struct fs_request *r, const struct fuse_setattr_in *in)
{
	bool kill = in->valid & FATTR_KILL_SUIDGID;
	int e = 0;

	if (!S_ISREG(r->node->type))
		return S_ISDIR(r->node->type) ? -EISDIR : -EINVAL;
	if (in->size > INT64_MAX)
		return -EINVAL;
	if (kill) {
		e = fs_creds_drop_fsetid(true);
		if (e < 0)
			return e;
	}
	if (in->valid & FATTR_FH) {
		const struct fs_file *f = fs_file_get(s, r, in->fh, false);

		if (!f)
			e = -EBADF;
		else if (ftruncate(f->fd, (off_t)in->size) < 0)
			e = -errno;
	} else if (truncate(fs_node_path(r->node).s, (off_t)in->size) < 0) {
		e = -errno;
	}
	if (kill) {
		int back = fs_creds_drop_fsetid(false);
		if (e == 0)
			e = back;
	}
	return e;
}

static int set_times(const struct fs_node *n, const struct fuse_setattr_in *in)
{
	struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_OMIT}};

	if (in->valid & FATTR_ATIME_NOW)
		t[0].tv_nsec = UTIME_NOW;
	else if (in->valid & FATTR_ATIME)
		t[0] = (struct timespec){(time_t)in->atime, in->atimensec};
	if (in->valid & FATTR_MTIME_NOW)
		t[1].tv_nsec = UTIME_NOW;
	else if (in->valid & FATTR_MTIME)
		t[1] = (struct timespec){(time_t)in->mtime, in->mtimensec};
	return utimensat(n->fd, "", t, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

int fs_setattr(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_setattr_in *in = r->args;
	const struct fs_node *n = r->node;
	int e = 0;

	/*
	 * Sets the mode through the path in /proc/self/fd, because before fchmodat2 (Linux 6.6)
	 * chmod(2) has no form for O_PATH descriptors.
	 */
	if ((in->valid & FATTR_MODE) && chmod(fs_node_path(n).s, in->mode & 07777) < 0)
		return -errno;
	if (in->valid & (FATTR_UID | FATTR_GID)) {
		uid_t uid = in->valid & FATTR_UID ? in->uid : (uid_t)-1;
		gid_t gid = in->valid & FATTR_GID ? in->gid : (gid_t)-1;

		if (fchownat(n->fd, "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
	}
	if (in->valid & FATTR_SIZE)
		e = set_size(s, r, in);
	if (e == 0 && (in->valid & (FATTR_ATIME | FATTR_MTIME | FATTR_ATIME_NOW | FATTR_MTIME_NOW)))
		e = set_times(n, in);
	return e < 0 ? e : fs_node_attr(s, n->fd, (struct fuse_attr_out *)s->reply);
}

int fs_readlink(struct fs_session *s, struct fs_request *r)
{
	if (!S_ISLNK(r->node->type))
		return -EINVAL;
	ssize_t n = readlinkat(r->node->fd, "", (char *)s->reply, PATH_MAX);
	return n < 0 ? -errno : (int)n;
}

int fs_statfs(struct fs_session *s, struct fs_request *r)
{
	struct fuse_statfs_out *out = (struct fuse_statfs_out *)s->reply;
	struct statvfs v;

	if (fstatvfs(r->node->fd, &v) < 0)
		return -errno;
	*out = (struct fuse_statfs_out){.st = {
						.blocks = v.f_blocks,
						.bfree = v.f_bfree,
						.bavail = v.f_bavail,
						.files = v.f_files,
						.ffree = v.f_ffree,
						.bsize = (uint32_t)v.f_bsize,
						.namelen = (uint32_t)v.f_namemax,
						.frsize = (uint32_t)v.f_frsize,
					}};
	return sizeof(*out);
}

/*
 * Returns whether the guest may see and set the extended attribute `name`. The other attributes of
 * a file belong to the host: labels of security modules, marks of overlayfs, hashes of IMA.
 */
static bool xattr_allowed(const char *name)
{
	return str_starts(name, "user.") || streq(name, "security.capability") ||
	       streq(name, "system.posix_acl_access") || streq(name, "system.posix_acl_default");
}

int fs_setxattr(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_setxattr_in *in = r->args;
	bool kill = s->setxattr_ext && (in->setxattr_flags & FUSE_SETXATTR_ACL_KILL_SGID);
	int e = 0;

	if (in->size != r->tail_len || (in->flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE)))
		return -EINVAL;
	if (!xattr_allowed(r->name[0]))
		return -EOPNOTSUPP;
	/*
	 * Drops CAP_FSETID if the guest asks for it (FUSE_SETXATTR_ACL_KILL_SGID). The host's
	 * kernel clears the set-group-id bit on a new access ACL only for a caller without that
	 * capability.
	 */
	if (kill)
		e = fs_creds_drop_fsetid(true);
	if (e == 0 && setxattr(fs_node_path(r->node).s, r->name[0], r->tail, in->size,
			      (int)in->flags) < 0)
		e = -errno;
	if (kill) {
		int back = fs_creds_drop_fsetid(false);
		if (e == 0)
			e = back;
	}
	return e;
}

/*
 * Writes the reply to a request with size 0, by which the guest asks only for the length `n` of a
 * value. Returns the length of the reply.
 */
static int reply_size(struct fs_session *s, ssize_t n)
{
	struct fuse_getxattr_out *out = (struct fuse_getxattr_out *)s->reply;

	*out = (struct fuse_getxattr_out){.size = (uint32_t)n};
	return sizeof(*out);
}

int fs_getxattr(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_getxattr_in *in = r->args;
	size_t size = in->size < XATTR_SIZE_MAX ? in->size : XATTR_SIZE_MAX;

	if (!xattr_allowed(r->name[0]))
		return -EOPNOTSUPP;
	ssize_t n = getxattr(fs_node_path(r->node).s, r->name[0], size ? s->reply : NULL, size);
	if (n < 0)
		return -errno;
	return size ? (int)n : reply_size(s, n);
}

int fs_listxattr(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_getxattr_in *in = r->args;
	char *list = (char *)s->reply;
	size_t kept = 0;

	ssize_t n = listxattr(fs_node_path(r->node).s, list, XATTR_LIST_MAX);
	if (n < 0)
		return -errno;
	for (size_t at = 0, len; at < (size_t)n; at += len) {
		len = strnlen(list + at, (size_t)n - at) + 1;
		if (!xattr_allowed(list + at))
			continue;
		memmove(list + kept, list + at, len);
		kept += len;
	}
	if (in->size == 0)
		return reply_size(s, (ssize_t)kept);
	return kept > in->size ? -ERANGE : (int)kept;
}

int fs_removexattr(struct fs_session *s, struct fs_request *r)
{
	if (!xattr_allowed(r->name[0]))
		return -EOPNOTSUPP;
	return removexattr(fs_node_path(r->node).s, r->name[0]) < 0 ? -errno : 0;
}
