/* SPDX-License-Identifier: Apache-2.0 */
/* Sets the properties of a file in the tree: owner, mode, extended attributes and times. */
#include <endian.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "images/oci/tree_internal.h"

#define ACL_VERSION 2
#define ACL_USER 0x02
#define ACL_GROUP 0x08

/*
 * Maps an id of the container to an id of this process. Returns -EOVERFLOW if no range of the map
 * contains it.
 */
static int id_map_get(const struct id_map *m, uint64_t inside, const char *what, uint32_t *ret)
{
	for (size_t i = 0; i < m->n; i++) {
		const struct id_range *g = &m->v[i];
		if (inside >= g->inside && inside - g->inside < g->count) {
			*ret = g->outside + (uint32_t)(inside - g->inside);
			return 0;
		}
	}
	/* An id of UINT32_MAX is refused, because it means "no change" to chown(2). */
	if (m->n == 0 && inside < UINT32_MAX) {
		*ret = (uint32_t)inside;
		return 0;
	}
	return err_set(EOVERFLOW, "the %s %llu is not in the map of ids", what,
		(unsigned long long)inside);
}

static int set_owner(struct tree *t, const struct object *o, const struct tar_entry *e)
{
	uint32_t uid, gid;

	if (t->options->squash) {
		if ((e->uid || e->gid) && t->options->squash_reason)
			tree_warn(t, TREE_WARN_OWNER, e->name, t->options->squash_reason);
		return 0;
	}
	int r = id_map_get(&t->options->uids, e->uid, "user", &uid);
	if (r >= 0)
		r = id_map_get(&t->options->gids, e->gid, "group", &gid);
	if (r < 0)
		return err_ctx(r, "%s", e->name);
	r = o->fd >= 0 ? fchown(o->fd, uid, gid)
		       : fchownat(o->parent, o->name, uid, gid, AT_SYMLINK_NOFOLLOW);
	/*
	 * chown(2) fails with EINVAL if the process's user namespace does not map one of the ids.
	 */
	if (r < 0 && errno == EINVAL)
		return err_set(EOVERFLOW,
			"%s belongs to %u:%u, which is beyond the ids that this user may map: give "
			"the user a larger range in /etc/subuid and /etc/subgid (usermod "
			"--add-subuids, --add-subgids)",
			e->name, uid, gid);
	return r < 0 ? err_sys("change the owner of %s to %u:%u", e->name, uid, gid) : 0;
}

static int set_mode(const struct object *o, const struct tar_entry *e)
{
	if (e->type == TAR_SYMLINK)
		return 0;
	int r = o->fd >= 0 ? fchmod(o->fd, e->mode)
			   : fchmodat(o->parent, o->name, e->mode, AT_SYMLINK_NOFOLLOW);
	return r < 0 ? err_sys("change the mode of %s", e->name) : 0;
}

static bool is_overlay_xattr(const char *name)
{
	return str_starts(name, "trusted.overlay.") || str_starts(name, "user.overlay.");
}

/*
 * Returns whether the attribute is one of caisson's own. caisson-disk trusts such an attribute,
 * because it says where the backing files of a disk image may be (runtime/disk/tool.c). So an
 * archive never sets one.
 */
static bool is_own_xattr(const char *name)
{
	return str_starts(name, "trusted.caisson.") || str_starts(name, "user.caisson.");
}

static bool is_acl(const char *name)
{
	return streq(name, "system.posix_acl_access") || streq(name, "system.posix_acl_default");
}

static bool is_known_namespace(const char *name)
{
	return str_starts(name, "user.") || str_starts(name, "trusted.") ||
	       str_starts(name, "security.") || is_acl(name);
}

/*
 * Maps the user and group ids in a POSIX ACL in the same way as the ids of owners. `value` is a
 * copy of the attribute, which the function changes: 4 bytes of version, then 8 bytes for each
 * entry.
 */
static int map_acl(const struct tree *t, unsigned char *value, size_t len)
{
	uint32_t version, id;
	uint16_t tag;

	if (len < 4 || (len - 4) % 8)
		return err_set(EINVAL, "an ACL is malformed");
	memcpy(&version, value, 4);
	if (le32toh(version) != ACL_VERSION)
		return err_set(EINVAL, "an ACL has an unknown version");
	for (unsigned char *p = value + 4; p < value + len; p += 8) {
		memcpy(&tag, p, 2);
		memcpy(&id, p + 4, 4);
		tag = le16toh(tag);
		if (tag != ACL_USER && tag != ACL_GROUP)
			continue;
		bool user = tag == ACL_USER;
		int r = id_map_get(user ? &t->options->uids : &t->options->gids, le32toh(id),
			user ? "user" : "group", &id);
		if (r < 0)
			return err_ctx(r, "an ACL");
		id = htole32(id);
		memcpy(p + 4, &id, 4);
	}
	return 0;
}

/*
 * Converts the value of the attribute security.capability. Version 2 is valid for the root of the
 * initial user namespace. If ids are mapped, version 2 becomes version 3, which is valid for the
 * container's root.
 */
static int map_capability(
	const struct tree *t, const struct tar_xattr *x, struct vfs_ns_cap_data *cap, size_t *len)
{
	uint32_t magic, root;

	if (x->len != XATTR_CAPS_SZ_2)
		return 0;
	memcpy(cap, x->value, x->len);
	memcpy(&magic, x->value, 4);
	magic = le32toh(magic);
	if ((magic & VFS_CAP_REVISION_MASK) != VFS_CAP_REVISION_2)
		return 0;
	int r = id_map_get(&t->options->uids, 0, "user", &root);
	if (r < 0)
		return err_ctx(r, "a file's capabilities");
	cap->magic_etc = htole32((magic & ~VFS_CAP_REVISION_MASK) | VFS_CAP_REVISION_3);
	cap->rootid = htole32(root);
	*len = XATTR_CAPS_SZ_3;
	return 0;
}

static int put_xattr(const struct object *o, const char *name, const void *value, size_t len)
{
	char path[64 + NAME_MAX];

	if (o->fd >= 0)
		return fsetxattr(o->fd, name, value, len, 0);
	/*
	 * The attribute is set by a path through the parent directory's descriptor in /proc,
	 * because no system call sets an attribute by directory and name. The path resolves only
	 * one name of the hostile tree, the last component, and lsetxattr(2) does not follow that
	 * one.
	 */
	snprintf(path, sizeof(path), "/proc/self/fd/%d/%s", o->parent, o->name);
	return lsetxattr(path, name, value, len, 0);
}

static int set_xattr(struct tree *t, const struct object *o, const struct tar_entry *e,
	const struct tar_xattr *x)
{
	_cleanup_free_ unsigned char *acl = NULL;
	struct vfs_ns_cap_data cap;
	const void *value = x->value;
	size_t len = x->len;
	bool shifted = t->options->uids.n || t->options->gids.n;
	int r = 0;

	if (shifted && is_acl(x->name)) {
		acl = malloc(len + 1);
		if (!acl)
			return err_set(ENOMEM, "out of memory");
		memcpy(acl, x->value, len);
		value = acl;
		r = map_acl(t, acl, len);
	} else if (shifted && streq(x->name, XATTR_NAME_CAPS)) {
		r = map_capability(t, x, &cap, &len);
		value = len != x->len ? &cap : value;
	}
	if (r < 0)
		return err_ctx(r, "%s", e->name);
	if (put_xattr(o, x->name, value, len) == 0)
		return 0;
	/*
	 * If all files get the caller as owner, the other users and groups that an ACL names do not
	 * exist in the caller's user namespace, and the kernel refuses the ACL with EINVAL.
	 */
	bool stranger = errno == EINVAL && t->options->squash && is_acl(x->name);
	if (stranger || errno == ENOTSUP || errno == EPERM || errno == ENODATA) {
		tree_warn(t, TREE_WARN_XATTR, e->name, x->name);
		return 0;
	}
	return err_sys("set the extended attribute %s of %s", x->name, e->name);
}

static int set_xattrs(struct tree *t, const struct object *o, const struct tar_entry *e)
{
	int r = 0;

	for (size_t i = 0; i < e->nxattrs && r >= 0; i++) {
		const struct tar_xattr *x = &e->xattrs[i];
		/*
		 * Attributes that this kind of file cannot have are skipped: user.* on a link or a
		 * device, and an ACL on a link, because setting an ACL on a link would change the
		 * link's target.
		 */
		bool none = (o->fd < 0 && str_starts(x->name, "user.")) ||
			    (e->type == TAR_SYMLINK && is_acl(x->name));
		if (is_overlay_xattr(x->name))
			tree_warn(t, TREE_WARN_OVERLAY_XATTR, e->name, x->name);
		else if (none || !is_known_namespace(x->name) || is_own_xattr(x->name))
			tree_warn(t, TREE_WARN_XATTR, e->name, x->name);
		else
			r = set_xattr(t, o, e, x);
	}
	return r;
}

static int object_set_times(const struct object *o, const struct tar_entry *e)
{
	const struct timespec times[2] = {e->mtime, e->mtime};
	int r = o->fd >= 0 ? futimens(o->fd, times)
			   : utimensat(o->parent, o->name, times, AT_SYMLINK_NOFOLLOW);

	return r < 0 ? err_sys("set the time of %s", e->name) : 0;
}

/*
 * Sets the properties in an order in which no change undoes another: chown(2) clears set-user-ID
 * bits and capabilities, and chmod(2) changes the mask of an ACL.
 */
int object_set(struct tree *t, const struct object *o, const struct tar_entry *e)
{
	int r = set_owner(t, o, e);

	if (r >= 0)
		r = set_mode(o, e);
	if (r >= 0)
		r = set_xattrs(t, o, e);
	return r < 0 ? r : object_set_times(o, e);
}
