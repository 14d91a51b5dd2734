/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serves the guest's requests that make, move and remove names. Each name is one path component,
 * because fs_handle() has checked it.
 */
#include <linux/fs.h>
#include <stdio.h>
#include <sys/sysmacros.h>

#include "vm/fs/fs.h"

/*
 * Answers with the node of the file that was just made under r->name[0]. If a program on the host
 * has removed the file in the meantime, the guest gets ENOENT.
 */
static int reply_new(struct fs_session *s, struct fs_request *r, int made)
{
	if (made < 0)
		return made;
	return fs_node_lookup(s, r->node, r->name[0], (struct fuse_entry_out *)s->reply);
}

int fs_symlink(struct fs_session *s, struct fs_request *r)
{
	int e = fs_creds_enter(s, r, s->mask);
	if (e < 0)
		return e;
	/*
	 * The server does not check the link's target, which may be absolute or contain "..",
	 * because only the guest follows links, and the server never does.
	 */
	e = symlinkat(r->name[1], r->node->fd, r->name[0]) < 0 ? -errno : 0;
	fs_creds_leave(s, r);
	return reply_new(s, r, e);
}

/*
 * Returns whether the guest may make this device node. Device nodes are restricted, because each
 * user of the host who can reach the shared directory could use them.
 */
static bool may_make_device(const struct vmfs_config *c, mode_t type, dev_t dev)
{
	return c->devices || (type == S_IFCHR && dev == 0) ||
	       (c->may_make && c->may_make(c->data, type, dev));
}

int fs_mknod(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_mknod_in *in = r->args;
	mode_t type = in->mode & S_IFMT;
	/*
	 * Decodes the device number from the kernel's 32-bit form (include/linux/kdev_t.h,
	 * new_decode_dev).
	 */
	dev_t dev =
		makedev((in->rdev & 0xfff00) >> 8, (in->rdev & 0xff) | (in->rdev >> 12 & 0xfff00));

	switch (type) {
	case 0:
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
		dev = 0;
		break;
	case S_IFCHR:
	case S_IFBLK:
		if (!may_make_device(s->config, type, dev))
			return -EPERM;
		break;
	default:
		return -EINVAL;
	}
	int e = fs_creds_enter(s, r, in->umask);
	if (e < 0)
		return e;
	e = mknodat(r->node->fd, r->name[0], in->mode, dev) < 0 ? -errno : 0;
	fs_creds_leave(s, r);
	return reply_new(s, r, e);
}

int fs_mkdir(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_mkdir_in *in = r->args;

	int e = fs_creds_enter(s, r, in->umask);
	if (e < 0)
		return e;
	e = mkdirat(r->node->fd, r->name[0], in->mode & 07777) < 0 ? -errno : 0;
	fs_creds_leave(s, r);
	return reply_new(s, r, e);
}

/*
 * Opens the descriptor of the node with this name before the name is removed, because the guest may
 * still use the file after that. Returns the node, or NULL if the guest knows no node with this
 * name.
 */
static struct fs_node *hold_before_removal(
	struct fs_session *s, const struct fs_node *dir, const char *name)
{
	struct fs_node *n = fs_node_find(s, dir, name);

	return n && fs_node_hold(s, n) == 0 ? n : NULL;
}

static int remove_name(struct fs_session *s, struct fs_request *r, int flags)
{
	struct fs_node *n = hold_before_removal(s, r->node, r->name[0]);

	if (unlinkat(r->node->fd, r->name[0], flags) < 0)
		return -errno;
	if (n)
		fs_node_set_name(s, n, NULL, NULL);
	return 0;
}

int fs_unlink(struct fs_session *s, struct fs_request *r)
{
	return remove_name(s, r, 0);
}

int fs_rmdir(struct fs_session *s, struct fs_request *r)
{
	return remove_name(s, r, AT_REMOVEDIR);
}

static int rename_node(struct fs_session *s, struct fs_request *r, uint64_t newdir, uint32_t flags)
{
	struct fs_node *to = fs_node_get(s, newdir);

	if (!to)
		return -ESTALE;
	if (!S_ISDIR(to->type))
		return -ENOTDIR;
	if (flags & ~(uint32_t)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT))
		return -EINVAL;
	int e = fs_node_pin(s, to);
	if (e < 0)
		return e;
	struct fs_node *moved = fs_node_find(s, r->node, r->name[0]);
	struct fs_node *replaced = hold_before_removal(s, to, r->name[1]);
	e = renameat2(r->node->fd, r->name[0], to->fd, r->name[1], flags) < 0 ? -errno : 0;
	fs_node_unpin(s, to);
	if (e < 0)
		return e;
	/*
	 * If both names are links to the same file, rename(2) does nothing. So the recorded name of
	 * the file's node stays as it is.
	 */
	if (moved == replaced)
		return 0;
	if (moved)
		fs_node_set_name(s, moved, to, r->name[1]);
	if (replaced && flags & RENAME_EXCHANGE)
		fs_node_set_name(s, replaced, r->node, r->name[0]);
	else if (replaced)
		fs_node_set_name(s, replaced, NULL, NULL);
	return 0;
}

int fs_rename(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_rename_in *in = r->args;

	return rename_node(s, r, in->newdir, 0);
}

int fs_rename2(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_rename2_in *in = r->args;

	return rename_node(s, r, in->newdir, in->flags);
}

int fs_link(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_link_in *in = r->args;
	struct fs_node *n = fs_node_get(s, in->oldnodeid);

	int e = n ? fs_node_hold(s, n) : -ESTALE;
	if (e < 0)
		return e;
	/*
	 * Links the inode itself and not a name, because a file that was made with O_TMPFILE has no
	 * name. The path goes through /proc/self/fd, because AT_EMPTY_PATH would need
	 * CAP_DAC_READ_SEARCH outside the server's user namespace.
	 */
	e = linkat(AT_FDCWD, fs_node_path(n).s, r->node->fd, r->name[0], AT_SYMLINK_FOLLOW) < 0
		    ? -errno
		    : 0;
	return reply_new(s, r, e);
}
