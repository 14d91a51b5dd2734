/* SPDX-License-Identifier: Apache-2.0 */
/* Serves the guest's requests to open, read, write and close files. */
#include "vm/fs/fs.h"

#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/sys.h"
#include "vm/virtio/iov.h"

/*
 * Flags of the guest's open(2) that the server passes to the host. O_APPEND is not among them,
 * because the guest sends this flag with each write.
 */
#define OPEN_FLAGS (O_ACCMODE | O_TRUNC | O_SYNC | O_DSYNC | O_NOATIME)

/* how many descriptors must stay free for nodes when the guest opens a file (descriptor_cache.c) */
#define FOR_NODES 32

/*
 * how many bytes the server copies for one COPY_FILE_RANGE request at most, because it serves no
 * other request during the copy
 */
#define COPY_MAX (64U << 20)

/* Makes an open file. `id` is the number that it must have; 0: any. */
static int add_file(
	struct fs_session *s, struct fs_node *n, int fd, uint64_t id, struct fs_file **ret)
{
	_cleanup_fd_ int own = fd;
	struct fs_file *f = calloc(1, sizeof(*f));

	if (!f)
		return -ENOMEM;
	*f = (struct fs_file){.node = n, .fd = own, .id = id};
	/*
	 * Keeps the cache of descriptors from closing the node's descriptor while its file is open.
	 */
	n->files++;
	fs_node_used(s, n);
	/*
	 * Reserves some descriptors for nodes, so that a guest with many open files can still look
	 * up other files.
	 */
	int e = fs_make_room(s, 1 + FOR_NODES);
	if (e == 0)
		e = id ? fs_slots_put(&s->files, id, f) : fs_slots_add(&s->files, f, &f->id);
	if (e < 0) {
		n->files--;
		fs_node_used(s, n);
		free(f);
		return e;
	}
	take_fd(&own);
	s->nfiles++;
	fs_node_used(s, n);
	*ret = f;
	return 0;
}

int fs_file_add(struct fs_session *s, struct fs_node *n, int fd, bool is_dir, uint64_t *ret_fh)
{
	struct fs_file *f = NULL;
	int e = add_file(s, n, fd, 0, &f);

	if (e < 0)
		return e;
	f->is_dir = is_dir;
	*ret_fh = f->id;
	return 0;
}

int fs_file_restore(struct fs_session *s, struct fs_node *n, int fd, uint64_t id)
{
	struct fs_file *f = NULL;

	return add_file(s, n, fd, id, &f);
}

struct fs_file *fs_file_get(
	const struct fs_session *s, const struct fs_request *r, uint64_t fh, bool is_dir)
{
	struct fs_file *f = fs_slots_get(&s->files, fh);

	return f && f->node == r->node && f->is_dir == is_dir ? f : NULL;
}

void fs_file_release(struct fs_session *s, uint64_t fh)
{
	struct fs_file *f = fs_slots_get(&s->files, fh);
	struct fs_node *n;

	if (!f)
		return;
	n = f->node;
	fs_slots_remove(&s->files, fh);
	fd_close(&f->fd);
	s->nfiles--;
	free(f->list);
	free(f);
	fs_node_unpin(s, n);
}

void fs_file_release_all(struct fs_session *s)
{
	for (uint32_t i = 1; i < s->files.used; i++)
		if (s->files.slot[i].object)
			fs_file_release(s, ((struct fs_file *)s->files.slot[i].object)->id);
}

/*
 * Returns FOPEN_KEEP_CACHE if the guest may keep the pages that it has cached of the file, which is
 * so if the file has not changed since it was last opened. The guest's own writes change the file
 * too; after them the guest reads its pages once more than necessary.
 */
static uint32_t cache_flags(struct fs_node *n, int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_MTIME | STATX_SIZE, &st) < 0) {
		n->opened = false;
		return 0;
	}
	bool same = n->opened && n->size == st.stx_size && n->mtime.tv_sec == st.stx_mtime.tv_sec &&
		    n->mtime.tv_nsec == st.stx_mtime.tv_nsec;
	n->opened = true;
	n->size = st.stx_size;
	n->mtime = st.stx_mtime;
	return same ? FOPEN_KEEP_CACHE : 0;
}

static int open_node(struct fs_session *s, struct fs_node *n, uint32_t flags, uint32_t kill)
{
	bool changes = (flags & O_ACCMODE) != O_RDONLY || (flags & O_TRUNC);
	int e;

	if (s->config->read_only && changes)
		return -EROFS;
	if (!S_ISREG(n->type))
		return S_ISDIR(n->type) ? -EISDIR : S_ISLNK(n->type) ? -ELOOP : -EINVAL;
	kill &= FUSE_OPEN_KILL_SUIDGID;
	if (kill) {
		e = fs_creds_drop_fsetid(true);
		if (e < 0)
			return e;
	}
	int fd = fs_node_open(n, (int)(flags & OPEN_FLAGS));
	if (kill) {
		e = fs_creds_drop_fsetid(false);
		if (e < 0) {
			fd_close(&fd);
			return e;
		}
	}
	return fd;
}

int fs_open(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_open_in *in = r->args;
	struct fuse_open_out *out = (struct fuse_open_out *)s->reply;

	int fd = open_node(s, r->node, in->flags, in->open_flags);
	if (fd < 0)
		return fd;
	*out = (struct fuse_open_out){.open_flags = cache_flags(r->node, fd)};
	int e = fs_file_add(s, r->node, fd, false, &out->fh);
	return e < 0 ? e : (int)sizeof(*out);
}

/*
 * Answers a create request: makes a node and an open file of `fd`, the descriptor of the new file.
 */
static int reply_created(struct fs_session *s, struct fs_request *r, const char *name, int fd)
{
	_cleanup_fd_ int own = fd;
	struct fuse_entry_out *entry = (struct fuse_entry_out *)s->reply;
	struct fuse_open_out *out = (struct fuse_open_out *)(entry + 1);
	char path[12];

	/*
	 * Opens the O_PATH descriptor of the new file through `fd` and not by name, because the
	 * name may already belong to another file.
	 */
	snprintf(path, sizeof(path), "%d", own);
	int at = open(path, O_PATH | O_CLOEXEC);
	if (at < 0)
		return errno == EMFILE ? -ENFILE : -errno;
	int e = fs_node_adopt(s, r->node, name, at, entry);
	if (e < 0)
		return e;
	struct fs_node *n = fs_node_get(s, entry->nodeid);
	*out = (struct fuse_open_out){0};
	e = fs_file_add(s, n, take_fd(&own), false, &out->fh);
	if (e < 0) {
		fs_node_forget(s, n->id, 1);
		return e;
	}
	return sizeof(*entry) + sizeof(*out);
}

/*
 * Opens a file that the host has created since the guest looked for it. The guest did not give
 * O_EXCL, so an existing file is no error.
 */
static int open_existing(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_create_in *in = r->args;
	struct fuse_entry_out *entry = (struct fuse_entry_out *)s->reply;
	struct fuse_open_out *out = (struct fuse_open_out *)(entry + 1);

	int e = fs_node_lookup(s, r->node, r->name[0], entry);
	if (e < 0)
		return e;
	struct fs_node *n = fs_node_get(s, entry->nodeid);
	*out = (struct fuse_open_out){0};
	e = fs_node_hold(s, n);
	int fd = e < 0 ? e : open_node(s, n, in->flags, in->open_flags);
	e = fd < 0 ? fd : fs_file_add(s, n, fd, false, &out->fh);
	if (e < 0) {
		fs_node_forget(s, n->id, 1);
		return e;
	}
	return sizeof(*entry) + sizeof(*out);
}

int fs_create(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_create_in *in = r->args;

	int e = fs_creds_enter(s, r, in->umask);
	if (e < 0)
		return e;
	int fd = sys_openat2(r->node->fd, r->name[0],
		(in->flags & OPEN_FLAGS & ~O_TRUNC) | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		in->mode & 07777, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
	e = fd < 0 ? -errno : 0;
	fs_creds_leave(s, r);
	if (e == 0)
		return reply_created(s, r, r->name[0], fd);
	if (e == -EEXIST && !(in->flags & O_EXCL))
		return open_existing(s, r);
	return e == -EMFILE ? -ENFILE : e;
}

int fs_tmpfile(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_create_in *in = r->args;
	uint32_t flags = (in->flags & OPEN_FLAGS & ~O_TRUNC) | (in->flags & O_EXCL);

	/*
	 * The server does not check the access mode: if a program in the guest asks for a temporary
	 * file without write access, the host's kernel refuses it.
	 */
	int e = fs_creds_enter(s, r, in->umask);
	if (e < 0)
		return e;
	int fd =
		open(fs_node_path(r->node).s, (int)flags | O_TMPFILE | O_CLOEXEC, in->mode & 07777);
	e = fd < 0 ? -errno : 0;
	fs_creds_leave(s, r);
	return e < 0 ? e : reply_created(s, r, NULL, fd);
}

int fs_read(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_read_in *in = r->args;
	const struct fs_file *f = fs_file_get(s, r, in->fh, false);
	size_t room = r->out_len - sizeof(struct fuse_out_header);
	size_t size = in->size < FS_MAX_WRITE ? in->size : FS_MAX_WRITE;
	unsigned int n;

	if (!f)
		return -EBADF;
	if (size > room)
		return -EINVAL;
	n = iov_slice((struct iov_range){r->out, r->nout, sizeof(struct fuse_out_header), size},
		s->iov, FS_MAX_IOV);
	ssize_t done = preadv(f->fd, s->iov, (int)n, (off_t)in->offset);
	if (done < 0)
		return -errno;
	r->direct = true;
	return (int)done;
}

int fs_write(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_write_in *in = r->args;
	struct fuse_write_out *out = (struct fuse_write_out *)s->reply;
	const struct fs_file *f = fs_file_get(s, r, in->fh, false);
	bool kill = in->write_flags & FUSE_WRITE_KILL_SUIDGID;
	size_t before = sizeof(r->head) + sizeof(*in);
	unsigned int n;
	int e = 0;

	if (!f)
		return -EBADF;
	if (in->size > FS_MAX_WRITE || in->size > r->in_len - before)
		return -EINVAL;
	n = iov_slice((struct iov_range){r->in, r->nin, before, in->size}, s->iov, FS_MAX_IOV);
	/*
	 * A write from the guest's page cache never appends, even if the file was opened with
	 * O_APPEND, because each cached page has its place in the file.
	 */
	int how = (in->flags & O_APPEND) && !(in->write_flags & FUSE_WRITE_CACHE) ? RWF_APPEND : 0;
	if (kill) {
		e = fs_creds_drop_fsetid(true);
		if (e < 0)
			return e;
	}
	ssize_t done = pwritev2(f->fd, s->iov, (int)n, (off_t)in->offset, how);
	if (done < 0)
		e = -errno;
	if (kill) {
		int back = fs_creds_drop_fsetid(false);
		if (e == 0)
			e = back;
	}
	if (e < 0)
		return e;
	*out = (struct fuse_write_out){.size = (uint32_t)done};
	return sizeof(*out);
}

int fs_release(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_release_in *in = r->args;

	if (!fs_file_get(s, r, in->fh, false))
		return -EBADF;
	/*
	 * Releases the POSIX locks of the guest's process at RELEASE too, because a process that
	 * died in open(2) sends no FLUSH before RELEASE.
	 */
	if (in->release_flags & FUSE_RELEASE_FLUSH)
		fs_lock_release(s, r->node, in->lock_owner);
	fs_file_release(s, in->fh);
	return 0;
}

/*
 * Serves FLUSH: a guest process has closed one of its descriptors of the file. POSIX says that this
 * releases all POSIX locks of the process on the file.
 */
int fs_flush(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_flush_in *in = r->args;

	if (!fs_file_get(s, r, in->fh, false))
		return -EBADF;
	fs_lock_release(s, r->node, in->lock_owner);
	return 0;
}

int fs_fsync(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_fsync_in *in = r->args;
	const struct fs_file *f = fs_file_get(s, r, in->fh, false);

	if (!f)
		return -EBADF;
	int e = in->fsync_flags & FUSE_FSYNC_FDATASYNC ? fdatasync(f->fd) : fsync(f->fd);
	return e < 0 ? -errno : 0;
}

int fs_fallocate(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_fallocate_in *in = r->args;
	const struct fs_file *f = fs_file_get(s, r, in->fh, false);

	if (!f)
		return -EBADF;
	if (in->mode &
		~(uint32_t)(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	return fallocate(f->fd, (int)in->mode, (off_t)in->offset, (off_t)in->length) < 0 ? -errno
											 : 0;
}

int fs_lseek(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_lseek_in *in = r->args;
	struct fuse_lseek_out *out = (struct fuse_lseek_out *)s->reply;
	const struct fs_file *f = fs_file_get(s, r, in->fh, false);

	if (!f)
		return -EBADF;
	/*
	 * Refuses SEEK_SET, SEEK_CUR and SEEK_END, which Linux never sends to a FUSE server: the
	 * kernel of the guest keeps the file position itself, and asks the server only where data
	 * or holes begin.
	 */
	if (in->whence != SEEK_DATA && in->whence != SEEK_HOLE)
		return -EINVAL;
	off_t at = lseek(f->fd, (off_t)in->offset, (int)in->whence);
	if (at < 0)
		return -errno;
	*out = (struct fuse_lseek_out){.offset = (uint64_t)at};
	return sizeof(*out);
}

int fs_copy_file_range(struct fs_session *s, struct fs_request *r)
{
	const struct fuse_copy_file_range_in *in = r->args;
	struct fuse_write_out *out = (struct fuse_write_out *)s->reply;
	const struct fs_file *from = fs_file_get(s, r, in->fh_in, false);
	struct fs_file *to = fs_slots_get(&s->files, in->fh_out);
	off_t in_at = (off_t)in->off_in, out_at = (off_t)in->off_out;

	if (!from || !to || to->is_dir || to->node->id != in->nodeid_out)
		return -EBADF;
	if (in->flags)
		return -EINVAL;
	size_t len = in->len < COPY_MAX ? (size_t)in->len : COPY_MAX;
	ssize_t n = copy_file_range(from->fd, &in_at, to->fd, &out_at, len, 0);
	if (n < 0)
		return -errno;
	*out = (struct fuse_write_out){.size = (uint32_t)n};
	return sizeof(*out);
}
