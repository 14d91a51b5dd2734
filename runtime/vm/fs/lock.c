/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks held on the host, so that guests and host programs that share a directory respect each
 * other's. A POSIX lock has an owner, a guest process: each owner of a node gets an open file
 * description of its own, with open file description locks on it; they end when it is closed.
 * flock(2) locks belong to the guest's open file, hence to ours.
 *
 * A request that has to wait is not answered yet (FS_LATER): the queue serves it again.
 */
#include "vm/fs/fs.h"

#include <stdlib.h>
#include <sys/file.h>

static int owner_fd(struct fs_session *s, struct fs_node *n, uint64_t owner)
{
	for (struct fs_lock_owner *o = n->owners; o; o = o->next)
		if (o->owner == owner)
			return o->fd;
	if (!S_ISREG(n->type))
		return -EINVAL;
	if (s->nowners >= s->files.max)
		return -ENOLCK;
	/* Write locks need a descriptor open for writing; a read-only share has read locks. */
	_cleanup_fd_ int fd = fs_node_open(n, O_RDWR);
	if (fd < 0)
		fd = fs_node_open(n, O_RDONLY);
	if (fd < 0)
		return fd;
	struct fs_lock_owner *o = calloc(1, sizeof(*o));
	if (!o)
		return -ENOMEM;
	*o = (struct fs_lock_owner){.next = n->owners, .owner = owner, .fd = take_fd(&fd)};
	n->owners = o;
	s->nowners++;
	return o->fd;
}

static void release_owner(struct fs_session *s, struct fs_lock_owner **at)
{
	struct fs_lock_owner *o = *at;

	*at = o->next;
	fd_close(&o->fd);
	free(o);
	s->nowners--;
}

void fs_lock_release(struct fs_session *s, struct fs_node *n, uint64_t owner)
{
	for (struct fs_lock_owner **at = &n->owners; *at; at = &(*at)->next) {
		if ((*at)->owner == owner) {
			release_owner(s, at);
			return;
		}
	}
}

void fs_lock_release_all(struct fs_session *s, struct fs_node *n)
{
	while (n->owners)
		release_owner(s, &n->owners);
}

static int to_flock(const struct fuse_file_lock *in, struct flock *ret)
{
	uint64_t end = in->end > INT64_MAX ? INT64_MAX : in->end;

	if (in->start > end || (in->type != F_RDLCK && in->type != F_WRLCK && in->type != F_UNLCK))
		return -EINVAL;
	*ret = (struct flock){
		.l_type = (short)in->type,
		.l_whence = SEEK_SET,
		.l_start = (off_t)in->start,
		/* 0 is to the end, however long the file gets; FUSE says OFFSET_MAX. */
		.l_len = end == INT64_MAX ? 0 : (off_t)(end - in->start + 1),
	};
	return 0;
}

int fs_getlk(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_lk_in *in = r->args;
	struct fuse_lk_out *out = (struct fuse_lk_out *)s->reply;
	struct flock l;

	if (!fs_file_get(s, r, in->fh, false))
		return -EBADF;
	int e = to_flock(&in->lk, &l);
	if (e < 0)
		return e;
	int fd = owner_fd(s, r->node, in->owner);
	if (fd < 0)
		return fd;
	if (fcntl(fd, F_OFD_GETLK, &l) < 0)
		return -errno;
	*out = (struct fuse_lk_out){.lk.type = (uint32_t)l.l_type};
	if (l.l_type != F_UNLCK) {
		out->lk.start = (uint64_t)l.l_start;
		out->lk.end = l.l_len ? (uint64_t)(l.l_start + l.l_len - 1) : INT64_MAX;
		/* Whose it is has no number that means something in the guest: 0. */
	}
	return sizeof(*out);
}

static int set_flock(const struct fs_file *f, const struct fuse_lk_in *in)
{
	int how = in->lk.type == F_RDLCK ? LOCK_SH : in->lk.type == F_WRLCK ? LOCK_EX : LOCK_UN;

	return flock(f->fd, how | LOCK_NB) < 0 ? -errno : 0;
}

static int set_lock(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_lk_in *in = r->args;
	const struct fs_file *f = fs_file_get(s, r, in->fh, false);
	struct flock l;

	if (!f)
		return -EBADF;
	int e = to_flock(&in->lk, &l);
	if (e < 0)
		return e;
	if (in->lk_flags & FUSE_LK_FLOCK)
		return set_flock(f, in);
	int fd = owner_fd(s, r->node, in->owner);
	if (fd < 0)
		return fd;
	return fcntl(fd, F_OFD_SETLK, &l) < 0 ? -errno : 0;
}

int fs_setlk(struct fs_session *s, struct fs_request *r)
{
	return set_lock(s, r);
}

int fs_setlkw(struct fs_session *s, struct fs_request *r)
{
	int e = set_lock(s, r);

	return e == -EAGAIN || e == -EACCES ? FS_LATER : e;
}
