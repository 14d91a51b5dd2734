/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Takes the guest's file locks on the host, so that guests and host programs that share a directory
 * respect each other's locks. A POSIX lock belongs to an owner, which is a process of the guest.
 * The server opens a file description for each owner of a node (lock_owner.c) and takes open file
 * description locks on it, which end when it is closed. A flock(2) lock belongs to an open file of
 * the guest, so the server takes the lock on the host's file that it has opened for this open file.
 *
 * For a request that has to wait for a lock the operation returns FS_LATER instead of an answer,
 * and serve.c tries the request again until it gets the lock.
 */
#include "vm/fs/fs.h"

#include <sys/file.h>

static int owner_fd(struct fs_session *s, struct fs_node *n, uint64_t owner)
{
	int fd = fs_lock_owner_get(n, owner);

	if (fd >= 0)
		return fd;
	if (!S_ISREG(n->type))
		return -EINVAL;
	if (s->nowners >= s->files.max)
		return -ENOLCK;
	/*
	 * A read-only share allows only read locks, because a write lock needs a descriptor with
	 * O_RDWR.
	 */
	fd = fs_node_open(n, O_RDWR);
	if (fd < 0)
		fd = fs_node_open(n, O_RDONLY);
	if (fd < 0)
		return fd;
	int e = fs_lock_owner_add(s, n, owner, fd);
	return e < 0 ? e : fd;
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
		/*
		 * The length 0 means a lock to the end of the file, however long it becomes. FUSE
		 * sends OFFSET_MAX as the end of such a lock.
		 */
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
		/*
		 * The pid is 0 if a process of the host holds the lock, because that process has no
		 * pid in the guest.
		 */
		out->lk.pid = fs_lock_owner_pid(r->node, in->owner, &l);
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
	if (fcntl(fd, F_OFD_SETLK, &l) < 0)
		return -errno;
	if (l.l_type != F_UNLCK)
		fs_lock_owner_name(r->node, in->owner, in->lk.pid);
	return 0;
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
